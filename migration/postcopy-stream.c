/*
 * What may come in a postcopy stream, and where
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration.h"
#include "options.h"
#include "postcopy-pieces.h"
#include "postcopy-stream.h"

/* --- Destination --- */

/* Where we are, or 0 if postcopy has not begun. */
static unsigned int place(MigrationIncomingState *mis, QEMUFile *f)
{
    if (!mis->have_listen_thread) {
        /* LISTEN, which begins it, is the first command in the package. */
        return f == mis->from_src_file ? 0 : POSTCOPY_IN_PACKAGE;
    }
    return qemu_thread_is_self(&mis->listen_thread) ? POSTCOPY_WITH_PAGES :
           POSTCOPY_IN_PACKAGE;
}

bool postcopy_stream_takes(MigrationIncomingState *mis, QEMUFile *f,
                           unsigned int places, const char *what)
{
    unsigned int here = place(mis, f);

    if (!here || here & places) {
        return true;
    }
    error_report("%s has come %s, where it is not expected", what,
                 here == POSTCOPY_IN_PACKAGE ?
                 "in a package" : "in the middle of postcopy");
    return false;
}

bool postcopy_stream_takes_part(MigrationIncomingState *mis, QEMUFile *f,
                                const SaveVMHandlers *ops, void *opaque,
                                const char *name)
{
    bool postcopy = ops && ops->has_postcopy && ops->has_postcopy(opaque);

    if (place(mis, f) != POSTCOPY_WITH_PAGES || postcopy) {
        return true;
    }
    error_report("A part of '%s' has come in the middle of postcopy, where it "
                 "is not expected", name);
    return false;
}

bool postcopy_stream_range(RAMBlock *rb, uint64_t start, uint64_t length,
                           Error **errp)
{
    if (length && length <= rb->used_length &&
        start <= rb->used_length - length &&
        QEMU_IS_ALIGNED(start | length, qemu_target_page_size())) {
        return true;
    }
    error_setg(errp, "RAM block '%s' has 0x%" PRIx64 " bytes, and 0x%" PRIx64
               " from 0x%" PRIx64 " on are no pages of it", rb->idstr,
               (uint64_t)rb->used_length, length, start);
    return false;
}

/* --- Source --- */

/* Requested pages have a channel of their own, and this thread sends them. */
static bool can_send_now(RAMBlock *rb, uint64_t length, Error **errp)
{
    if (!migrate_get_current()->postcopy_qemufile_src) {
        error_setg(errp, "Pages are requested, and the channel for them is not "
                   "there yet");
        return false;
    }
    if (length % postcopy_pieces_unit(rb)) {
        error_setg(errp, "0x%" PRIx64 " bytes of RAM block '%s' are requested, "
                   "which are no whole pages of 0x%zx", length, rb->idstr,
                   postcopy_pieces_unit(rb));
        return false;
    }
    return true;
}

bool postcopy_stream_request(RAMBlock *rb, uint64_t start, uint64_t length,
                             Error **errp)
{
    if (!rb->bmap) {
        error_setg(errp, "Pages of RAM block '%s' are requested, which is not "
                   "migrated", rb->idstr);
        return false;
    }
    if (!postcopy_stream_range(rb, start, length, errp)) {
        return false;
    }
    return !migrate_postcopy_preempt() || !migration_in_postcopy() ||
           can_send_now(rb, length, errp);
}
