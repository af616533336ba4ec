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
#include "savevm.h"
#include "trace.h"

/* "KUF", and a number; others are in postcopy-commit.c. */
#define PING_ASK    0x4b554604
#define PONG_TAKES  0x4b554605
#define PING_SENDS  0x4b554606

/* Set before the first request is sent, and read by who sends them. */
static bool dest_sends;

static struct {
    /* Set by the return path's thread. */
    bool takes;
    /* Set when the guest is stopped; the first request comes later. */
    bool sends;
    /* Where the background goes on, or NULL.  Protected by bitmap_mutex. */
    RAMBlock *rb;
    unsigned long page;
} source;

/* --- Destination --- */

void postcopy_pieces_reset(void)
{
    qatomic_set(&dest_sends, false);
}

uint32_t postcopy_pieces_ping(MigrationIncomingState *mis, uint32_t value)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    switch (value) {
    case PING_ASK:
        return ops && ops->pieces ? PONG_TAKES : value;
    case PING_SENDS:
        qatomic_set(&dest_sends, true);
        return value;
    default:
        return value;
    }
}

size_t postcopy_piece_size(RAMBlock *rb)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    return ops && ops->pieces ? qemu_target_page_size() : rb->page_size;
}

bool postcopy_pieces_agreed(void)
{
    return qatomic_read(&dest_sends);
}

size_t postcopy_piece_request(RAMBlock *rb, ram_addr_t *start, size_t around)
{
    size_t piece = postcopy_piece_size(rb);

    if (postcopy_pieces_agreed()) {
        return piece + around;
    }
    if (piece == rb->page_size || !migrate_postcopy_preempt()) {
        /* Upstream's source goes on to the end of the huge page by itself. */
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

/* --- Source --- */

void postcopy_pieces_ask(MigrationState *s)
{
    qatomic_set(&source.takes, false);
    qatomic_set(&source.sends, false);
    source.rb = NULL;
    /* What is sent is given back at once, which needs whole huge pages. */
    if (migrate_postcopy_ram() && !migrate_release_ram() &&
        s->postcopy_pieces) {
        qemu_savevm_send_ping(s->to_dst_file, PING_ASK);
    }
}

void postcopy_pieces_pong(uint32_t value)
{
    if (value == PONG_TAKES) {
        qatomic_set(&source.takes, true);
    }
}

void postcopy_pieces_switch(MigrationState *s)
{
    if (qatomic_read(&source.takes)) {
        trace_postcopy_pieces();
        qatomic_set(&source.sends, true);
        qemu_savevm_send_ping(s->to_dst_file, PING_SENDS);
    }
}

size_t postcopy_pieces_unit(RAMBlock *rb)
{
    return qatomic_read(&source.sends) ? MIN(qemu_target_page_size(),
                                             rb->page_size) : rb->page_size;
}

void postcopy_pieces_sent(RAMBlock *rb, unsigned long page)
{
    ram_addr_t offset = (ram_addr_t)page << qemu_target_page_bits();

    if (postcopy_pieces_unit(rb) < rb->page_size &&
        !QEMU_IS_ALIGNED(offset, rb->page_size)) {
        source.rb = rb;
        source.page = page;
    }
}

void postcopy_pieces_next(RAMBlock **rb, ram_addr_t *page)
{
    if (source.rb) {
        *rb = source.rb;
        *page = source.page;
        source.rb = NULL;
    }
}
