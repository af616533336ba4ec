/*
 * Wait for a set of pages without blocking a thread
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/coroutine.h"
#include "qemu/rcu.h"
#include "qemu/stats64.h"
#include "block/aio.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "postcopy-gate.h"

struct PostcopyGate {
    /* RAMWaiter; does not grow while the gate is closed. */
    GArray *waiters;
    /* As many of them are waited for, the rest is only requested. */
    guint needed;
    bool soon;
    /* As many of them were given to the RAM wait; their rb is NULL if not */
    guint added;
    /* Pages that are missing, and one more while the gate is being closed. */
    unsigned int missing;
    void (*opened)(void *opaque);
    void *opaque;
};

static Stat64 put_off;

void postcopy_gate_count_put_off(void)
{
    stat64_add(&put_off, 1);
}

uint64_t postcopy_gate_put_off(void)
{
    return stat64_get(&put_off);
}

void postcopy_gate_reset_count(void)
{
    stat64_init(&put_off, 0);
}

PostcopyGate *postcopy_gate_new(void)
{
    PostcopyGate *gate = g_new0(PostcopyGate, 1);

    gate->waiters = g_array_new(false, true, sizeof(RAMWaiter));
    return gate;
}

static void page_arrived(RAMWaiter *w)
{
    PostcopyGate *gate = w->opaque;

    /* Whoever takes the last one sees all pages: a full barrier. */
    if (!qatomic_dec_fetch(&gate->missing)) {
        gate->opened(gate->opaque);
    }
}

static void page_requested(RAMWaiter *w)
{
}

void postcopy_gate_add(PostcopyGate *gate, RAMBlock *rb, ram_addr_t offset)
{
    RAMWaiter w = {
        .rb = rb,
        .offset = offset,
        .wake = gate->soon ? page_requested : page_arrived,
        .opaque = gate,
    };

    g_array_append_val(gate->waiters, w);
}

void postcopy_gate_add_range(PostcopyGate *gate, RAMBlock *rb,
                             ram_addr_t offset, ram_addr_t length)
{
    const size_t page_size = qemu_target_page_size();
    ram_addr_t end = offset + length;

    RCU_READ_LOCK_GUARD();
    for (offset = ROUND_DOWN(offset, page_size); offset < end;
         offset += page_size) {
        if (ram_wait_page_missing(rb, offset)) {
            postcopy_gate_add(gate, rb, offset);
        }
    }
}

void postcopy_gate_soon(PostcopyGate *gate)
{
    gate->soon = true;
    gate->needed = gate->waiters->len;
}

size_t postcopy_gate_pages(PostcopyGate *gate)
{
    return gate->waiters->len;
}

bool postcopy_gate_close(PostcopyGate *gate, void (*opened)(void *opaque),
                         void *opaque)
{
    if (!gate->soon) {
        gate->needed = gate->waiters->len;
    }
    gate->opened = opened;
    gate->opaque = opaque;
    qatomic_set(&gate->missing, gate->needed + 1);

    WITH_RCU_READ_LOCK_GUARD() {
        for (guint i = 0; i < gate->waiters->len; i++) {
            RAMWaiter *w = &g_array_index(gate->waiters, RAMWaiter, i);

            if (ram_wait_add(w)) {
                continue;
            }
            w->rb = NULL;
            if (i < gate->needed) {
                qatomic_dec(&gate->missing);
            }
        }
    }
    gate->added = gate->waiters->len;
    return qatomic_dec_fetch(&gate->missing);
}

bool postcopy_gate_is_open(PostcopyGate *gate)
{
    /* Pairs with the full barrier in page_arrived(). */
    return !qatomic_load_acquire(&gate->missing);
}

void postcopy_gate_reset(PostcopyGate *gate)
{
    for (guint i = 0; i < gate->added; i++) {
        RAMWaiter *w = &g_array_index(gate->waiters, RAMWaiter, i);

        /* Also if the page has come: wake() may still be at work. */
        if (w->rb) {
            ram_wait_del(w);
        }
    }
    g_array_set_size(gate->waiters, 0);
    gate->added = 0;
    gate->needed = 0;
    gate->soon = false;
    qatomic_set(&gate->missing, 0);
}

typedef struct GateCoroutine {
    AioContext *ctx;
    Coroutine *co;
} GateCoroutine;

static void wake_coroutine(void *opaque)
{
    GateCoroutine *waiting = opaque;

    aio_co_schedule(waiting->ctx, waiting->co);
}

static void coroutine_fn gate_wait_co(PostcopyGate *gate)
{
    GateCoroutine waiting = {
        .ctx = qemu_get_current_aio_context(),
        .co = qemu_coroutine_self(),
    };

    if (postcopy_gate_close(gate, wake_coroutine, &waiting)) {
        qemu_coroutine_yield();
    }
}

static void wake_thread(void *opaque)
{
    qemu_event_set(opaque);
}

void coroutine_mixed_fn postcopy_gate_wait(PostcopyGate *gate)
{
    QemuEvent event;

    if (qemu_in_coroutine()) {
        gate_wait_co(gate);
    } else {
        qemu_event_init(&event, false);
        if (postcopy_gate_close(gate, wake_thread, &event)) {
            qemu_event_wait(&event);
        }
        /* wake_thread() may still be at work. */
        postcopy_gate_reset(gate);
        qemu_event_destroy(&event);
    }
}

void postcopy_gate_free(PostcopyGate *gate)
{
    g_array_free(gate->waiters, true);
    g_free(gate);
}
