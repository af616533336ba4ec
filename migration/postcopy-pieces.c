/*
 * Huge pages that postcopy brings piece by piece
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration.h"
#include "options.h"
#include "postcopy-fault.h"
#include "postcopy-pieces.h"

size_t postcopy_piece_size(RAMBlock *rb)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    return ops && ops->pieces ? qemu_target_page_size() : rb->page_size;
}

size_t postcopy_piece_request(RAMBlock *rb, ram_addr_t *start)
{
    size_t piece = postcopy_piece_size(rb);

    if (piece == rb->page_size || !migrate_postcopy_preempt()) {
        /* The source goes on to the end of the huge page by itself. */
        return piece;
    }
    /*
     * With the preempt channel it asserts that it is asked for as many bytes as
     * huge pages have, and refuses what goes beyond the block.  It stops at the
     * end of the huge page all the same.
     */
    if (*start + rb->page_size > rb->postcopy_length) {
        *start = ROUND_DOWN(*start, rb->page_size);
    }
    return rb->page_size;
}
