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
 * threads that read the stream, the tree of requested pages, recovery and
 * blocktime.
 *
 * The callbacks are in the order of their use.  A backend that is chosen has
 * supported_by_host(), setup(), fault_thread(), arm() and place(); the others
 * are NULL if there is nothing to do.  Those that can fail return false with
 * *@errp set.  All run in the main thread with the BQL held unless they say
 * otherwise.
 */
typedef struct PostcopyFaultOps {
    PostcopyFaultBackend backend;

    /*
     * place() gets target pages, also of a block of huge pages; see
     * postcopy-pieces.h.
     */
    bool pieces;

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
    bool (*discard_range)(RAMBlock *rb, uint64_t start, size_t length,
                          Error **errp);

    /* The source begins to discard what it has sent and changed since. */
    bool (*prepare_discard)(MigrationIncomingState *mis, Error **errp);

    /* The last discard is over.  If it fails, there is nothing to undo. */
    bool (*setup)(MigrationIncomingState *mis, Error **errp);

    /* The thread that sends requests; see postcopy_ram_fault_thread(). */
    void *(*fault_thread)(void *opaque);

    /* From now on accesses to missing pages are caught. */
    bool (*arm)(MigrationIncomingState *mis, Error **errp);

    /*
     * Pages arrive, before the device state is loaded: wait for those that
     * must be there.  Runs in the incoming migration's coroutine.
     *
     * A backend that has it can also wait for a link that breaks from now on:
     * the migration is paused, and can be recovered, before the VM runs.
     */
    bool (*before_devices)(MigrationIncomingState *mis, Error **errp);

    /*
     * The device state is loaded: have @run called in the main loop when the
     * VM can go on.  If NULL, that is at once.
     */
    void (*before_run)(MigrationIncomingState *mis, QEMUBHFunc *run);

    /*
     * The source has given up the guest, see postcopy-commit.h.  Called once,
     * after or before before_run(), in the thread that reads the stream,
     * without the BQL.
     */
    void (*committed)(MigrationIncomingState *mis);

    /*
     * Make a page available, and set its bits in receivedmap when its contents
     * are there, and not before.  @pagesize is postcopy_piece_size(), @from is
     * NULL for zeros.  Called by several threads, without a lock.
     */
    bool (*place)(MigrationIncomingState *mis, void *host, void *from,
                  uint64_t pagesize, RAMBlock *rb, Error **errp);

    /*
     * No page comes any more.  Is every page there?  If not, cleanup() is not
     * called: whoever needs a page must not go on.  Called without the BQL in
     * the listen thread.
     */
    bool (*complete)(MigrationIncomingState *mis, Error **errp);

    /*
     * Undo arm() and setup(); the fault thread is gone.  Called without the BQL
     * in the listen thread, or in the main thread if arm() failed.
     */
    bool (*cleanup)(MigrationIncomingState *mis, Error **errp);

    /* Counts for query-migrate.  Any thread. */
    void (*fill_info)(PostcopyFaultInfo *info);
} PostcopyFaultOps;

extern const PostcopyFaultOps postcopy_userfaultfd_ops;
extern const PostcopyFaultOps postcopy_kvm_userfault_ops;

/**
 * postcopy_fault_latch: the source announces postcopy of RAM
 *
 * Chooses the backend for this migration and keeps it in
 * MigrationIncomingState.postcopy_fault until postcopy_fault_unlatch().
 * Nothing that the choice depends on is looked at meanwhile.  Called in the
 * main thread, before any RAM is touched.
 */
bool postcopy_fault_latch(MigrationIncomingState *mis, Error **errp);

/* The migration is over, or goes on without postcopy.  BQL held. */
void postcopy_fault_unlatch(MigrationIncomingState *mis);

/**
 * postcopy_fault_ops: the latched backend, or NULL
 *
 * NULL unless RAM comes in by postcopy, or may.  Any thread.
 */
const PostcopyFaultOps *postcopy_fault_ops(MigrationIncomingState *mis);

/* Sets the defaults of capabilities; the accelerator is there. */
void postcopy_fault_init(MigrationState *s);

/**
 * postcopy_fault_caps_check: can capabilities change like this?
 *
 * Probes the host if the destination's backend changes.
 */
bool postcopy_fault_caps_check(const bool *old_caps, const bool *new_caps,
                               Error **errp);

/* Can the backend take pages from @addr?  Called before it is listened on. */
bool postcopy_fault_transport_check(const MigrationAddress *addr, Error **errp);

/* Can RAM be discarded like this?  Calls the backend, which reports errors. */
int postcopy_fault_discard_range(RAMBlock *rb, uint64_t start, size_t length);

/**
 * postcopy_fault_before_devices: wait for what must be there before devices
 *
 * Runs in the incoming migration's coroutine, at the end of LISTEN.  Errors are
 * reported.
 */
bool coroutine_fn postcopy_fault_before_devices(MigrationIncomingState *mis);

/**
 * postcopy_fault_waits_for_channel: does it wait for the preempt channel?
 *
 * In postcopy_fault_before_devices(), when the migration can be paused already.
 */
bool postcopy_fault_waits_for_channel(MigrationIncomingState *mis);

/* Call @run in the main loop when the VM can go on. */
void postcopy_fault_before_run(MigrationIncomingState *mis, QEMUBHFunc *run);

/**
 * postcopy_fault_listens: is this the thread that reads the stream?
 *
 * False in the main thread, which loads the device state from memory while the
 * listen thread may close the stream and open another one.
 */
bool postcopy_fault_listens(MigrationIncomingState *mis);

/**
 * postcopy_fault_can_pause: can a migration whose stream broke be recovered?
 *
 * Called in the thread whose load failed.
 */
bool postcopy_fault_can_pause(MigrationIncomingState *mis);

/**
 * postcopy_fault_steal_stream: take the main channel, to close it
 *
 * From then on postcopy_fault_break_link() leaves it alone.
 */
QEMUFile *postcopy_fault_steal_stream(MigrationIncomingState *mis);

/**
 * postcopy_fault_break_link: make all who use the connection see that it broke
 *
 * Also those that wait for a page at the end, see postcopy_fault_drained().
 * Any thread, without page_request_mutex.  Does not wait for anybody who sends.
 * Returns 0 or a negative errno.
 */
int postcopy_fault_break_link(MigrationIncomingState *mis);

/* There is a new connection. */
void postcopy_fault_mend_link(MigrationIncomingState *mis);

/**
 * postcopy_fault_drained: the main channel has ended; wait for the other one
 *
 * Waits until all pages that were asked for have come on the preempt channel.
 * Returns false if that broke before: the migration has to be recovered.
 * Called in the listen thread.
 */
bool postcopy_fault_drained(MigrationIncomingState *mis);

/* Is every page there?  If not, that is reported. */
bool postcopy_fault_complete(MigrationIncomingState *mis);

/* What query-migrate says of the backend, and how info migrate prints it. */
void postcopy_fault_fill_info(MigrationInfo *info);
void postcopy_fault_print_info(Monitor *mon, const PostcopyFaultInfo *info);

#endif /* QEMU_MIGRATION_POSTCOPY_FAULT_H */
