/*
 * Wait for a set of pages without blocking a thread
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "exec/ramblock.h"
#include "postcopy-gate.h"

struct PostcopyGate {
    /* RAMBarrierWaiter; does not grow while the gate is closed. */
    GArray *waiters;
    /* Pages that are missing, and one more while the gate is being closed. */
    unsigned int missing;
    void (*opened)(void *opaque);
    void *opaque;
};

PostcopyGate *postcopy_gate_new(void)
{
    PostcopyGate *gate = g_new0(PostcopyGate, 1);

    gate->waiters = g_array_new(false, true, sizeof(RAMBarrierWaiter));
    return gate;
}

static void page_arrived(RAMBarrierWaiter *w)
{
    PostcopyGate *gate = w->opaque;

    /* Whoever takes the last one sees all pages: a full barrier. */
    if (!qatomic_dec_fetch(&gate->missing)) {
        gate->opened(gate->opaque);
    }
}

void postcopy_gate_add(PostcopyGate *gate, RAMBlock *rb, ram_addr_t offset)
{
    RAMBarrierWaiter w = {
        .rb = rb,
        .offset = offset,
        .wake = page_arrived,
        .opaque = gate,
    };

    g_array_append_val(gate->waiters, w);
}

void postcopy_gate_add_range(PostcopyGate *gate, RAMBlock *rb,
                             ram_addr_t offset, ram_addr_t length)
{
    RCU_READ_LOCK_GUARD();
    for (ram_addr_t end = offset + length; offset < end;
         offset += rb->page_size) {
        if (ram_barrier_page_missing(rb, offset)) {
            postcopy_gate_add(gate, rb, offset);
        }
    }
}

size_t postcopy_gate_pages(PostcopyGate *gate)
{
    return gate->waiters->len;
}

bool postcopy_gate_close(PostcopyGate *gate, void (*opened)(void *opaque),
                         void *opaque)
{
    gate->opened = opened;
    gate->opaque = opaque;
    gate->missing = gate->waiters->len + 1;

    WITH_RCU_READ_LOCK_GUARD() {
        for (guint i = 0; i < gate->waiters->len; i++) {
            RAMBarrierWaiter *w = &g_array_index(gate->waiters,
                                                 RAMBarrierWaiter, i);

            if (!ram_barrier_add(w)) {
                qatomic_dec(&gate->missing);
            }
        }
    }
    return qatomic_dec_fetch(&gate->missing);
}

void postcopy_gate_free(PostcopyGate *gate)
{
    g_array_free(gate->waiters, true);
    g_free(gate);
}
