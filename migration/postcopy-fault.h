/*
 * Who catches accesses to pages that postcopy has yet to bring
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_FAULT_H
#define QEMU_MIGRATION_POSTCOPY_FAULT_H

#include "qapi/qapi-types-migration.h"
#include "migration.h"

/*
 * Postcopy's destination needs two things from the host: to be told of an
 * access to a page that is missing, and to make a page available at once and
 * as a whole.  A backend does both.  All else is shared: the protocol, the
 * threads that read the stream, RAMBlock.receivedmap, the tree of requested
 * pages, recovery and blocktime.
 *
 * The callbacks are in the order of their use.
 */
typedef struct PostcopyFaultOps {
    PostcopyFaultBackend backend;

    /*
     * Can this host, and this VM as it is now, do it?  Called when the
     * capability is set and again when the source announces postcopy, before
     * any RAM is touched.
     */
    bool (*supported_by_host)(MigrationIncomingState *mis, Error **errp);

    /*
     * The pages' bits in receivedmap are clear: their contents are those of
     * another time.  Offsets and lengths are in bytes, of host pages.
     */
    int (*discard_range)(RAMBlock *rb, uint64_t start, size_t length);

    /* Called for each block before the guest's first page is discarded. */
    int (*prepare_discard)(RAMBlock *rb, void *opaque);

    /*
     * The last discard is over.  Errors are reported, and end in cleanup().
     * All but fault_thread() run in the main thread.
     */
    int (*setup)(MigrationIncomingState *mis);

    /* The thread that sends requests; see postcopy_ram_fault_thread(). */
    void *(*fault_thread)(void *opaque);

    /* From now on accesses to missing pages are caught. */
    int (*arm)(MigrationIncomingState *mis);

    /*
     * Pages arrive, before the device state is loaded: wait for those that
     * must be there.  May be NULL.  Runs in the incoming migration's coroutine.
     */
    bool (*before_devices)(MigrationIncomingState *mis, Error **errp);

    /*
     * The device state is loaded: have @run called in the main loop when the
     * VM can go on.
     */
    void (*before_run)(MigrationIncomingState *mis, QEMUBHFunc *run);

    /*
     * Make a host page available.  @from is NULL for zeros.  receivedmap does
     * not have the page yet, unless the backend sets it, which it may.
     * Returns 0 or a negative errno.  Called by several threads.
     */
    int (*place)(MigrationIncomingState *mis, void *host, void *from,
                 uint64_t pagesize, RAMBlock *rb);

    /*
     * No page comes any more.  Is every page there?  If not, cleanup() is not
     * called: whoever needs a page must not go on.  Called without the BQL in
     * the listen thread.  May be NULL.
     */
    bool (*complete)(MigrationIncomingState *mis, Error **errp);

    /* Undo arm() and setup(); the fault thread is gone. */
    int (*cleanup)(MigrationIncomingState *mis);

    /* Counts for query-migrate.  May be NULL. */
    void (*fill_info)(PostcopyFaultInfo *info);
} PostcopyFaultOps;

extern const PostcopyFaultOps postcopy_userfaultfd_ops;
extern const PostcopyFaultOps postcopy_kvm_userfault_ops;

/* The backend that the capabilities ask for. */
const PostcopyFaultOps *postcopy_fault_ops(void);

/* The same; query-migrate tells of it from now on. */
const PostcopyFaultOps *postcopy_fault_begin(void);

/* Sets the defaults of capabilities; the accelerator is there. */
void postcopy_fault_init(MigrationState *s);

/**
 * postcopy_fault_caps_check: can capabilities change like this?
 *
 * Probes the host if the destination's backend changes.
 */
bool postcopy_fault_caps_check(const bool *old_caps, const bool *new_caps,
                               Error **errp);

/* Shared by the backends' fault threads; see postcopy-ram.c. */
int postcopy_request_page(MigrationIncomingState *mis, RAMBlock *rb,
                          ram_addr_t start, uint64_t haddr);
void postcopy_pause_fault_thread(MigrationIncomingState *mis);
void mark_postcopy_blocktime_begin(uintptr_t addr, uint32_t ptid, RAMBlock *rb);
void postcopy_blocktime_init(MigrationIncomingState *mis);

/* Can the backend take pages from @addr?  Called before it is listened on. */
bool postcopy_fault_transport_check(const MigrationAddress *addr, Error **errp);

/* What query-migrate says of the backend, and how info migrate prints it. */
void postcopy_fault_fill_info(MigrationInfo *info);
void postcopy_fault_print_info(Monitor *mon, const PostcopyFaultInfo *info);

#endif /* QEMU_MIGRATION_POSTCOPY_FAULT_H */
