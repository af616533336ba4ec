/*
 * Guest RAM that is not there yet: the RAM barrier
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_RAM_BARRIER_H
#define SYSTEM_RAM_BARRIER_H

#include "exec/cpu-common.h"
#include "qemu/queue.h"
#include "qemu/thread.h"

/*
 * While a postcopy migration comes in without userfaultfd, the guest runs and
 * pages of its RAM are still on the way.  Nothing but QEMU itself keeps QEMU's
 * own code away from them.  That is this barrier: the memory API calls
 * ram_barrier_wait() before it touches guest RAM or hands out a pointer to it.
 *
 * A page is missing while its bit in RAMBlock.receivedmap is clear.  The bit
 * only ever goes from clear to set while the barrier is on, so a page that was
 * found to be present stays so.
 *
 * Who needs a page queues a RAMBarrierWaiter.  The resolver (the migration
 * code) takes requests with ram_barrier_next_request(), gets the pages, sets
 * their bits and calls ram_barrier_page_present().
 *
 * Locks: a bucket's lock (internal) is the innermost lock of QEMU.  It is held
 * for a few instructions, never while waiting, and RAMBarrierWaiter.wake() runs
 * under it.
 */

typedef struct RAMBarrierWaiter RAMBarrierWaiter;

/**
 * struct RAMBarrierWaiter - somebody who needs a page
 *
 * @rb, @offset: the host page, as a block and a byte offset that is a multiple
 *   of the block's page size
 * @tid: thread that is blocked, or 0
 * @wake: called once when the page is present, with a bucket's lock held: it
 *   must not block, take a lock or free the waiter
 * @opaque: for @wake
 *
 * The rest is internal.  The memory is the caller's, and stays his.
 */
struct RAMBarrierWaiter {
    RAMBlock *rb;
    ram_addr_t offset;
    uint32_t tid;
    void (*wake)(RAMBarrierWaiter *w);
    void *opaque;

    bool present;
    bool queued;
    int64_t since_ns;
    QTAILQ_ENTRY(RAMBarrierWaiter) next;
    QTAILQ_ENTRY(RAMBarrierWaiter) next_request;
};

/* A page that somebody waits for; see RAMBarrierWaiter for the fields. */
typedef struct RAMBarrierRequest {
    RAMBlock *rb;
    ram_addr_t offset;
    uint32_t tid;
} RAMBarrierRequest;

/* Read with qatomic_read(): false but for an incoming postcopy migration. */
extern bool ram_barrier_active;

/* Out of line part of ram_barrier_wait(). */
void ram_barrier_wait_slow(RAMBlock *rb, ram_addr_t offset, ram_addr_t length);

/**
 * ram_barrier_wait: wait until a part of a block is there
 *
 * @rb: the block
 * @offset: first byte, within the block
 * @length: number of bytes; the range may go beyond what is migrated
 *
 * Blocks the thread, as a page fault would that userfaultfd catches.  May be
 * called in any context (BQL, AioContext lock, RCU critical section,
 * coroutine), but not by a thread that resolves, see ram_barrier_resolver(),
 * and not where a memory listener's lock is held.
 */
static inline void ram_barrier_wait(RAMBlock *rb, ram_addr_t offset,
                                    ram_addr_t length)
{
    if (unlikely(qatomic_read(&ram_barrier_active))) {
        ram_barrier_wait_slow(rb, offset, length);
    }
}

/**
 * ram_barrier_page_missing: is the page at @offset still to come?
 *
 * Call it in an RCU critical section.  If it returns false, the page's
 * contents can be read (acquire; pairs with the resolver setting the bit after
 * it has written the page).
 */
bool ram_barrier_page_missing(RAMBlock *rb, ram_addr_t offset);

/**
 * ram_barrier_add: queue @w, and request its page
 *
 * Call it in an RCU critical section.  Returns false, and leaves @w alone, if
 * the page is present or the barrier is off.
 */
bool ram_barrier_add(RAMBarrierWaiter *w);

/**
 * ram_barrier_del: take @w back, after a true ram_barrier_add()
 *
 * Returns true if the page is present.  @w->wake() is not called any more, and
 * @w can go, when this returns.
 */
bool ram_barrier_del(RAMBarrierWaiter *w);

/* RAMBarrierWaiter.wake() that sets the QemuEvent in opaque. */
void ram_barrier_wake_event(RAMBarrierWaiter *w);

/**
 * ram_barrier_stuck_ns: for how long has nobody in ram_barrier_wait() got on?
 *
 * Nanoseconds since the last thread began to sleep in ram_barrier_wait(), or
 * went on; 0 if no thread sleeps there.  vCPUs outside of it do not count: they
 * can be kicked.  Any thread.
 */
int64_t ram_barrier_stuck_ns(void);

/**
 * ram_barrier_resolver: the calling thread gets pages, or stops doing so
 *
 * Such a thread must not wait for one.  The barrier asserts it.
 */
void ram_barrier_resolver(bool resolver);

/**
 * ram_barrier_enable: from now on, QEMU waits for missing pages
 *
 * @notify: called (in any thread, must not block) when there are requests for
 *   ram_barrier_next_request() and there were none before
 *
 * Called with the BQL held and all vCPUs stopped.
 */
void ram_barrier_enable(void (*notify)(void *opaque), void *opaque);

/**
 * ram_barrier_disable: all pages are present
 *
 * Waits for an RCU grace period, thus must not be called with the BQL held.
 * When it returns, nobody uses RAMBlock.receivedmap for the barrier any more.
 */
void ram_barrier_disable(void);

/**
 * ram_barrier_next_request: take a request
 *
 * Returns false if there is none.  Only one thread may call it.
 */
bool ram_barrier_next_request(RAMBarrierRequest *req);

/**
 * ram_barrier_page_present: wake who waits for the host page at @offset
 *
 * Called after the page's contents and its bits in RAMBlock.receivedmap are
 * set.  No system call is made unless somebody waits for this page.
 */
void ram_barrier_page_present(RAMBlock *rb, ram_addr_t offset);

/* Buckets of the latency histograms: bucket n counts [2^n, 2^(n+1)) us. */
#define RAM_BARRIER_LATENCY_BUCKETS 24

/**
 * struct RAMBarrierStats - what the barrier did since it was enabled
 *
 * @vcpu_waits, @waits: how often vCPUs outside of KVM_RUN, and others, had to
 *   wait for pages
 * @vcpu_latency, @latency: how long each page took, log2 of microseconds
 */
typedef struct RAMBarrierStats {
    uint64_t vcpu_waits;
    uint64_t waits;
    uint64_t vcpu_latency[RAM_BARRIER_LATENCY_BUCKETS];
    uint64_t latency[RAM_BARRIER_LATENCY_BUCKETS];
} RAMBarrierStats;

/* Counts are kept until the barrier is enabled again. */
void ram_barrier_stats(RAMBarrierStats *stats);

/* Count a vCPU's wait for @w, which is over. */
void ram_barrier_count_vcpu(const RAMBarrierWaiter *w);

#endif /* SYSTEM_RAM_BARRIER_H */
