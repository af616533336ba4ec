/*
 * What query-migrate reads without the BQL
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration-info.h"

QemuMutex migration_info_lock;

static void __attribute__((__constructor__)) migration_info_init(void)
{
    qemu_mutex_init(&migration_info_lock);
}
