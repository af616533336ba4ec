/*
 * Guest RAM that is not there yet: the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_RAM_WAIT_H
#define SYSTEM_RAM_WAIT_H

#include "exec/cpu-common.h"
#include "qemu/queue.h"
#include "qemu/thread.h"

/*
 * While a postcopy migration comes in without userfaultfd, the guest runs and
 * pages of its RAM are still on the way.  Nothing but QEMU itself keeps QEMU's
 * own code away from them.  That is the RAM wait: the memory API calls
 * ram_wait_for() before it touches guest RAM or hands out a pointer to it.
 *
 * A page is missing while its bit in RAMBlock.receivedmap is clear.  The bit
 * only ever goes from clear to set while the RAM wait is on, so a page that was
 * found to be present stays so.  Pages are always the target's: a block of huge
 * pages is waited for piece by piece.
 *
 * Who needs a page queues a RAMWaiter.  The resolver (the migration
 * code) takes requests with ram_wait_next_request(), gets the pages, sets
 * their bits and calls ram_wait_page_present().
 *
 * Locks: a bucket's lock (internal) is the innermost lock of QEMU.  It is held
 * for a few instructions, never while waiting.  RAMWaiter.wake() runs under it;
 * RAMWaiter.event is set when it has been dropped, so that whoever wakes up
 * does not run into it.
 */

typedef struct RAMWaiter RAMWaiter;

/**
 * struct RAMWaiter - somebody who needs a page
 *
 * @rb, @offset: the page, as a block and a byte offset that is a multiple of
 *   the target's page size
 * @tid: thread that is blocked, or 0
 * @event: set when the page is present, or NULL if there is a @wake.  Some
 *   thread can still be about to set it when ram_wait_del() has returned:
 *   reclaim it by call_rcu(), and expect it to be set for nothing
 * @wake: called once when the page is present, with a bucket's lock held: it
 *   must not block, take a lock or free the waiter
 * @opaque: for @wake
 * @sends: its thread sends the request itself if nothing is in the way, see
 *   RAMWaitResolver.send
 *
 * The rest is internal.  The memory is owned by the caller, who may read
 * @present without a lock: once it is true, nobody else looks at a waiter that
 * has an @event.
 */
struct RAMWaiter {
    RAMBlock *rb;
    ram_addr_t offset;
    uint32_t tid;
    QemuEvent *event;
    void (*wake)(RAMWaiter *w);
    void *opaque;
    bool sends;

    bool present;
    bool queued;
    int64_t since_ns;
    QTAILQ_ENTRY(RAMWaiter) next;
    QTAILQ_ENTRY(RAMWaiter) next_request;
};

/* A page that somebody waits for; see RAMWaiter for the fields. */
typedef struct RAMWaitRequest {
    RAMBlock *rb;
    ram_addr_t offset;
    uint32_t tid;
} RAMWaitRequest;

/* Read with qatomic_read(): false but for an incoming postcopy migration. */
extern bool ram_wait_active;

/* Out of line part of ram_wait_for(). */
void ram_wait_for_slow(RAMBlock *rb, ram_addr_t offset, ram_addr_t length);

/**
 * ram_wait_for: wait until a part of a block is there
 *
 * @rb: the block
 * @offset: first byte, within the block
 * @length: number of bytes; the range may go beyond what is migrated
 *
 * Blocks the thread, as a page fault would that userfaultfd catches.  May be
 * called in any context (BQL, AioContext lock, RCU critical section,
 * coroutine), but not by a thread that resolves, see ram_wait_resolver(),
 * and not where a memory listener's lock is held.
 */
static inline void ram_wait_for(RAMBlock *rb, ram_addr_t offset,
                                ram_addr_t length)
{
    if (unlikely(qatomic_read(&ram_wait_active))) {
        ram_wait_for_slow(rb, offset, length);
    }
}

/**
 * ram_wait_page_missing: is the page at @offset still to come?
 *
 * Call it in an RCU critical section.  If it returns false, the page's
 * contents can be read (acquire; pairs with the resolver setting the bit after
 * it has written the page).
 */
bool ram_wait_page_missing(RAMBlock *rb, ram_addr_t offset);

/**
 * ram_wait_add: queue @w, and request its page
 *
 * Call it in an RCU critical section.  Returns false, and leaves @w alone, if
 * the page is present or the RAM wait is off.
 */
bool ram_wait_add(RAMWaiter *w);

/**
 * ram_wait_del: take @w back, after a true ram_wait_add()
 *
 * Returns true if the page is present.  @w->wake() is not called any more, and
 * @w can go, when this returns; for @w->event see above.
 */
bool ram_wait_del(RAMWaiter *w);

/**
 * ram_wait_stuck_ns: for how long has nobody in ram_wait_for() got on?
 *
 * Nanoseconds since the last thread began to sleep in ram_wait_for(), or
 * went on; 0 if no thread sleeps there.  vCPUs outside of it do not count: they
 * can be kicked.  Any thread.
 */
int64_t ram_wait_stuck_ns(void);

/**
 * ram_wait_resolver: the calling thread gets pages, or stops doing so
 *
 * Such a thread must not wait for one; that is asserted.
 */
void ram_wait_resolver(bool resolver);

/**
 * struct RAMWaitResolver - who gets the pages
 *
 * @notify: called (in any thread, must not block) when there are requests for
 *   ram_wait_next_request() and there were none before
 * @send: NULL, or called in the thread of a waiter that sends its own request,
 *   without a lock of the RAM wait.  Must not block: returns false if it would
 *   have to, and then the request is queued
 * @opaque: for both
 */
typedef struct RAMWaitResolver {
    void (*notify)(void *opaque);
    bool (*send)(const RAMWaiter *w, void *opaque);
    void *opaque;
} RAMWaitResolver;

/**
 * ram_wait_enable: from now on, QEMU waits for missing pages
 *
 * Called with the BQL held and all vCPUs stopped.
 */
void ram_wait_enable(const RAMWaitResolver *resolver);

/**
 * ram_wait_disable: all pages are present
 *
 * Waits for an RCU grace period, thus must not be called with the BQL held.
 * When it returns, nobody uses RAMBlock.receivedmap for the RAM wait any more.
 */
void ram_wait_disable(void);

/**
 * ram_wait_next_request: take a request
 *
 * Returns false if there is none.  Only one thread may call it.
 */
bool ram_wait_next_request(RAMWaitRequest *req);

/**
 * ram_wait_page_present: wake who waits for the page at @offset
 *
 * Called after the page's contents and its bit in RAMBlock.receivedmap are
 * set.  No system call is made unless somebody waits for this page.
 */
void ram_wait_page_present(RAMBlock *rb, ram_addr_t offset);

/* Buckets of the latency histograms: bucket n counts [2^n, 2^(n+1)) us. */
#define RAM_WAIT_LATENCY_BUCKETS 24

/**
 * struct RAMWaitStats - who has waited since ram_wait_enable()
 *
 * @vcpu_waits, @waits: how often vCPUs outside of KVM_RUN, and others, had to
 *   wait for pages
 * @vcpu_ns, @ns: how long, all of these waits together
 * @vcpu_latency, @latency: how long each page took, log2 of microseconds
 */
typedef struct RAMWaitStats {
    uint64_t vcpu_waits;
    uint64_t waits;
    uint64_t vcpu_ns;
    uint64_t ns;
    uint64_t vcpu_latency[RAM_WAIT_LATENCY_BUCKETS];
    uint64_t latency[RAM_WAIT_LATENCY_BUCKETS];
} RAMWaitStats;

/* Counts are kept until the next ram_wait_enable(). */
void ram_wait_stats(RAMWaitStats *stats);

/* Count a vCPU's wait for @w, which is over. */
void ram_wait_count_vcpu(const RAMWaiter *w);

#endif /* SYSTEM_RAM_WAIT_H */
