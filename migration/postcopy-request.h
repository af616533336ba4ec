/*
 * Requests for pages by those who wait for them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_REQUEST_H
#define QEMU_MIGRATION_POSTCOPY_REQUEST_H

#include "migration.h"

/**
 * postcopy_request_now: request the page at @start, if nothing is in the way
 *
 * And what is behind it, see postcopy-around.h.
 *
 * Never waits, neither for a lock nor for the link.  Returns false if it would
 * have to, or if no requests are sent at the moment: then the page has to be
 * requested by the fault thread, see postcopy_request_page().
 *
 * Returns true if the page is there, or has been requested.  If the link breaks
 * meanwhile, that counts as requested: what is in the tree of requests is sent
 * again when the migration is recovered.
 *
 * Any thread, without page_request_mutex and rp_mutex.  They are taken in the
 * other order elsewhere, which is why the second one is only tried.
 */
bool postcopy_request_now(MigrationIncomingState *mis, RAMBlock *rb,
                          ram_addr_t start);

/* What a channel's bytes go to or come from, or -1 if that can't be said. */
int postcopy_request_fd(QEMUFile *f);

/**
 * postcopy_request_open: from now on, waiters can send
 *
 * Any thread, without rp_mutex.
 */
void postcopy_request_open(MigrationIncomingState *mis);

/**
 * postcopy_request_close: nobody does when this has returned
 *
 * Before the return path is closed for good, and the tree of requests is gone:
 * a page can have come, and end the migration, while its waiter still sends.
 * Any thread, without rp_mutex.
 */
void postcopy_request_close(MigrationIncomingState *mis);

#endif /* QEMU_MIGRATION_POSTCOPY_REQUEST_H */
