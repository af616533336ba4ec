/*
 * What query-migrate reads without the BQL
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_INFO_H
#define MIGRATION_INFO_H

#include "qemu/lockable.h"
#include "qemu/thread.h"

/*
 * query-migrate and migrate-pause also run in the monitor's thread, see
 * monitor/qmp-unattended.c.  This protects what they look at and what changes
 * meanwhile: the list of SaveStateEntry, the migration blockers, and of
 * MigrationIncomingState the list of socket addresses and the life of
 * from_src_file.
 *
 * Who changes one of them holds the BQL as before, or is the only one who does,
 * and this lock in addition; who only reads holds one of the two.  Nothing
 * waits with it, and no other lock is taken inside but yank's.
 */
extern QemuMutex migration_info_lock;

#endif /* MIGRATION_INFO_H */
