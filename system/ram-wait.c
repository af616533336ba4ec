/*
 * Guest RAM that is not there yet: the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/notify.h"
#include "qemu/rcu.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "system/ram-wait.h"
#include "trace.h"

/* One bit of ram_wait.pending for each. */
#define NR_BUCKETS 64

/* Pages that one access asks for at once; more only cost more round trips. */
#define WAIT_BATCH 16

/* Threads that are woken each time the bucket's lock is dropped. */
#define WAKE_BATCH 16

/*
 * Waiters and requests are kept by a hash of the page, so that vCPUs which wait
 * for different pages do not meet at a lock.
 */
typedef struct RAMWaitBucket {
    QemuMutex lock;
    /* Number of waiters.  Written under the lock. */
    unsigned int nr;
    QTAILQ_HEAD(, RAMWaiter) waiters;
    /* Those of them whose request was not taken yet. */
    QTAILQ_HEAD(, RAMWaiter) requests;
} QEMU_ALIGNED(64) RAMWaitBucket;

typedef struct RAMWaitCounters {
    Stat64 waits;
    Stat64 ns;
    Stat64 latency[RAM_WAIT_LATENCY_BUCKETS];
} RAMWaitCounters;

static struct {
    RAMWaitResolver resolver;
    /* Bit n: bucket n has requests. */
    uint64_t pending;
    /* Where ram_wait_next_request() is; only of its thread. */
    uint64_t taken;
    RAMWaitBucket buckets[NR_BUCKETS];
    RAMWaitCounters vcpus;
    RAMWaitCounters others;
    /* Threads that sleep in wait_batch(). */
    unsigned int blocked;
    /* When the last of them began to, or went on. */
    int64_t blocked_ns;
} ram_wait;

bool ram_wait_active;

static __thread bool thread_is_resolver;

void ram_wait_resolver(bool resolver)
{
    thread_is_resolver = resolver;
}

/* Does not look into the block: it may be gone in ram_wait_del(). */
static unsigned int bucket_index(RAMBlock *rb, ram_addr_t offset)
{
    uint64_t page = ((uintptr_t)rb >> 4) + (offset >> qemu_target_page_bits());

    /* Fibonacci hashing: the upper bits of the product are well mixed. */
    return (page * 0x9e3779b97f4a7c15ULL) >> (64 - ctz32(NR_BUCKETS));
}

bool ram_wait_page_missing(RAMBlock *rb, ram_addr_t offset)
{
    unsigned long nr = offset >> qemu_target_page_bits();

    if (!rb->receivedmap || offset >= rb->postcopy_length) {
        return false;
    }
    return !(qatomic_load_acquire(&rb->receivedmap[BIT_WORD(nr)]) &
             BIT_MASK(nr));
}

static void request_page(RAMWaitBucket *bucket, RAMWaiter *w,
                         unsigned int index)
{
    QTAILQ_INSERT_TAIL(&bucket->requests, w, next_request);
    w->queued = true;
    /* Pairs with the exchange in ram_wait_next_request(). */
    if (!qatomic_fetch_or(&ram_wait.pending, BIT_ULL(index))) {
        ram_wait.resolver.notify(ram_wait.resolver.opaque);
    }
}

static bool sends_itself(const RAMWaiter *w)
{
    return w->sends && ram_wait.resolver.send;
}

/* Returns false if the page is present; else it may have to be requested. */
static bool waiter_insert(RAMWaitBucket *bucket, RAMWaiter *w,
                          unsigned int index)
{
    QEMU_LOCK_GUARD(&bucket->lock);
    qatomic_set(&bucket->nr, bucket->nr + 1);
    /*
     * Be counted before looking at receivedmap; pairs with the barrier in
     * ram_wait_page_present().
     */
    smp_mb();
    if (!ram_wait_page_missing(w->rb, w->offset)) {
        qatomic_set(&bucket->nr, bucket->nr - 1);
        return false;
    }
    QTAILQ_INSERT_TAIL(&bucket->waiters, w, next);
    if (!sends_itself(w)) {
        request_page(bucket, w, index);
    }
    return true;
}

bool ram_wait_add(RAMWaiter *w)
{
    unsigned int index = bucket_index(w->rb, w->offset);
    RAMWaitBucket *bucket = &ram_wait.buckets[index];

    assert(!thread_is_resolver);
    assert(QEMU_IS_ALIGNED(w->offset, qemu_target_page_size()));

    /* Pairs with ram_wait_enable(). */
    if (!qatomic_load_acquire(&ram_wait_active)) {
        return false;
    }
    w->present = false;
    w->queued = false;
    w->since_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    if (!waiter_insert(bucket, w, index)) {
        return false;
    }
    trace_ram_wait_request(w->rb->idstr, w->offset, w->tid);
    if (sends_itself(w) &&
        !ram_wait.resolver.send(w, ram_wait.resolver.opaque)) {
        QEMU_LOCK_GUARD(&bucket->lock);
        /* The page can have come meanwhile. */
        if (!w->present) {
            request_page(bucket, w, index);
        }
    }
    return true;
}

/* Called with the bucket's lock held. */
static void waiter_unlink(RAMWaitBucket *bucket, RAMWaiter *w)
{
    QTAILQ_REMOVE(&bucket->waiters, w, next);
    if (w->queued) {
        QTAILQ_REMOVE(&bucket->requests, w, next_request);
        w->queued = false;
    }
    qatomic_set(&bucket->nr, bucket->nr - 1);
}

bool ram_wait_del(RAMWaiter *w)
{
    RAMWaitBucket *bucket = &ram_wait.buckets[bucket_index(w->rb, w->offset)];

    /* Pairs with waiter_wake(). */
    if (w->event && qatomic_load_acquire(&w->present)) {
        return true;
    }
    /* Also when it is present: wake() may still be at work. */
    QEMU_LOCK_GUARD(&bucket->lock);
    if (!w->present) {
        waiter_unlink(bucket, w);
    }
    return w->present;
}

/*
 * Called with the bucket's lock held.  Returns the event to set when it was
 * dropped, or NULL.
 */
static QemuEvent *waiter_wake(RAMWaitBucket *bucket, RAMWaiter *w)
{
    QemuEvent *event = w->event;

    waiter_unlink(bucket, w);
    trace_ram_wait_resume(w->rb->idstr, w->offset, w->tid);
    if (event) {
        /* The last access: @w can go.  Pairs with ram_wait_del(). */
        qatomic_store_release(&w->present, true);
    } else {
        w->present = true;
        w->wake(w);
    }
    return event;
}

/* Returns how many of @events are to be set; if all, there can be more. */
static unsigned int wake_page(RAMWaitBucket *bucket, RAMBlock *rb,
                              ram_addr_t offset, QemuEvent **events)
{
    RAMWaiter *w, *next;
    unsigned int n = 0;

    QEMU_LOCK_GUARD(&bucket->lock);
    QTAILQ_FOREACH_SAFE(w, &bucket->waiters, next, next) {
        if (n == WAKE_BATCH) {
            break;
        }
        if (w->rb == rb && w->offset == offset) {
            events[n] = waiter_wake(bucket, w);
            n += !!events[n];
        }
    }
    return n;
}

void ram_wait_page_present(RAMBlock *rb, ram_addr_t offset)
{
    RAMWaitBucket *bucket = &ram_wait.buckets[bucket_index(rb, offset)];
    QemuEvent *events[WAKE_BATCH];
    unsigned int n;

    /* The caller has set the bit; pairs with ram_wait_add(). */
    smp_mb();
    if (likely(!qatomic_read(&bucket->nr))) {
        return;
    }

    /* Events stay until a grace period after their waiters are gone. */
    RCU_READ_LOCK_GUARD();
    do {
        n = wake_page(bucket, rb, offset, events);
        for (unsigned int i = 0; i < n; i++) {
            qemu_event_set(events[i]);
        }
    } while (n == WAKE_BATCH);
}

bool ram_wait_next_request(RAMWaitRequest *req)
{
    for (;;) {
        RAMWaitBucket *bucket;
        RAMWaiter *w;

        if (!ram_wait.taken) {
            ram_wait.taken = qatomic_xchg(&ram_wait.pending, 0);
            if (!ram_wait.taken) {
                return false;
            }
        }
        bucket = &ram_wait.buckets[ctz64(ram_wait.taken)];

        QEMU_LOCK_GUARD(&bucket->lock);
        w = QTAILQ_FIRST(&bucket->requests);
        if (w) {
            QTAILQ_REMOVE(&bucket->requests, w, next_request);
            w->queued = false;
            req->rb = w->rb;
            req->offset = w->offset;
            req->tid = w->tid;
            return true;
        }
        /* This bucket is empty: on to the next. */
        ram_wait.taken &= ram_wait.taken - 1;
    }
}

/* A thread's own, for all that it waits for. */
typedef struct ThreadEvent {
    struct rcu_head rcu;
    QemuEvent event;
    Notifier exit;
} ThreadEvent;

static void thread_event_reclaim(ThreadEvent *te)
{
    qemu_event_destroy(&te->event);
    g_free(te);
}

static void thread_event_exit(Notifier *notifier, void *data)
{
    ThreadEvent *te = container_of(notifier, ThreadEvent, exit);

    call_rcu(te, thread_event_reclaim, rcu);
}

static QemuEvent *thread_event(void)
{
    static __thread ThreadEvent *te;

    if (!te) {
        te = g_new0(ThreadEvent, 1);
        qemu_event_init(&te->event, false);
        te->exit.notify = thread_event_exit;
        qemu_thread_atexit_add(&te->exit);
    }
    return &te->event;
}

static void count_page(RAMWaitCounters *counters, int64_t ns)
{
    unsigned int bucket = 63 - clz64(MAX(ns / 1000, 1));

    bucket = MIN(bucket, RAM_WAIT_LATENCY_BUCKETS - 1);
    stat64_add(&counters->latency[bucket], 1);
}

/* A thread can wait for several pages at once. */
static void count_wait(RAMWaitCounters *counters, int64_t ns)
{
    stat64_add(&counters->waits, 1);
    stat64_add(&counters->ns, ns);
}

static int64_t ns_since(int64_t ns)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - ns;
}

void ram_wait_count_vcpu(const RAMWaiter *w)
{
    int64_t ns = ns_since(w->since_ns);

    count_page(&ram_wait.vcpus, ns);
    count_wait(&ram_wait.vcpus, ns);
}

/* Queue a waiter for each missing page from *@offset on, as far as they go. */
static unsigned int add_batch(RAMWaiter *w, RAMBlock *rb,
                              ram_addr_t *offset, ram_addr_t end,
                              QemuEvent *event)
{
    const size_t page_size = qemu_target_page_size();
    unsigned int n = 0;

    for (; *offset < end && n < WAIT_BATCH; *offset += page_size) {
        w[n] = (RAMWaiter) {
            .rb = rb,
            .offset = *offset,
            .tid = qemu_get_thread_id(),
            .event = event,
        };
        n += ram_wait_add(&w[n]);
    }
    return n;
}

/*
 * The time first: who sees the count sees it too.  The pair is in
 * ram_wait_stuck_ns().
 */
static void blocked_begin(void)
{
    qatomic_set_i64(&ram_wait.blocked_ns,
                    qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    qatomic_inc(&ram_wait.blocked);
}

static void blocked_end(void)
{
    qatomic_set_i64(&ram_wait.blocked_ns,
                    qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    qatomic_dec(&ram_wait.blocked);
}

int64_t ram_wait_stuck_ns(void)
{
    if (!qatomic_load_acquire(&ram_wait.blocked)) {
        return 0;
    }
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) -
           qatomic_read_i64(&ram_wait.blocked_ns);
}

static void wait_batch(RAMWaiter *w, unsigned int n, QemuEvent *event)
{
    blocked_begin();
    for (unsigned int i = 0; i < n; i++) {
        RAMWaiter *waiter = &w[i];

        for (;;) {
            qemu_event_reset(event);
            if (!ram_wait_page_missing(waiter->rb, waiter->offset)) {
                break;
            }
            qemu_event_wait(event);
        }
        ram_wait_del(waiter);
        count_page(&ram_wait.others, ns_since(waiter->since_ns));
    }
    blocked_end();
}

void ram_wait_for_slow(RAMBlock *rb, ram_addr_t offset, ram_addr_t length)
{
    const size_t page_size = qemu_target_page_size();
    RAMWaiter w[WAIT_BATCH];
    ram_addr_t end = offset + length;
    QemuEvent *event;
    ram_addr_t next;
    int64_t since_ns = 0;
    unsigned int n;

    assert(!thread_is_resolver);

    /*
     * The pages stay what they are meanwhile: RAMBlock.receivedmap is freed
     * after a grace period.
     */
    RCU_READ_LOCK_GUARD();
    /* Pairs with ram_wait_enable(). */
    if (!qatomic_load_acquire(&ram_wait_active)) {
        return;
    }
    if (rb->receivedmap == NULL || offset >= rb->postcopy_length) {
        return;
    }
    end = MIN(end, rb->postcopy_length);
    next = ROUND_DOWN(offset, page_size);

    /* What is nearly always the case, without all that follows. */
    while (next < end && !ram_wait_page_missing(rb, next)) {
        next += page_size;
    }
    if (next >= end) {
        return;
    }

    event = thread_event();
    while ((n = add_batch(w, rb, &next, end, event))) {
        since_ns = since_ns ?: w[0].since_ns;
        wait_batch(w, n, event);
    }

    if (since_ns) {
        count_wait(&ram_wait.others, ns_since(since_ns));
        trace_ram_wait_done(rb->idstr, offset, length);
    }
}

static void counters_reset(RAMWaitCounters *counters)
{
    stat64_init(&counters->waits, 0);
    stat64_init(&counters->ns, 0);
    for (int i = 0; i < RAM_WAIT_LATENCY_BUCKETS; i++) {
        stat64_init(&counters->latency[i], 0);
    }
}

void ram_wait_enable(const RAMWaitResolver *resolver)
{
    static bool initialized;

    for (int i = 0; !initialized && i < NR_BUCKETS; i++) {
        qemu_mutex_init(&ram_wait.buckets[i].lock);
        QTAILQ_INIT(&ram_wait.buckets[i].waiters);
        QTAILQ_INIT(&ram_wait.buckets[i].requests);
    }
    initialized = true;

    counters_reset(&ram_wait.vcpus);
    counters_reset(&ram_wait.others);
    ram_wait.resolver = *resolver;
    /*
     * Of the time before: hints at requests that were taken back before the
     * resolver came to them.  They would keep the first notify() from coming.
     */
    ram_wait.pending = 0;
    ram_wait.taken = 0;
    /*
     * iothreads run; who sees that the RAM wait is on sees all of the above,
     * and RAMBlock.receivedmap.
     */
    qatomic_store_release(&ram_wait_active, true);
}

void ram_wait_disable(void)
{
    qatomic_set(&ram_wait_active, false);
    synchronize_rcu();
}

static void counters_read(const RAMWaitCounters *counters, uint64_t *waits,
                          uint64_t *ns, uint64_t *latency)
{
    *waits = stat64_get(&counters->waits);
    *ns = stat64_get(&counters->ns);
    for (int i = 0; i < RAM_WAIT_LATENCY_BUCKETS; i++) {
        latency[i] = stat64_get(&counters->latency[i]);
    }
}

void ram_wait_stats(RAMWaitStats *stats)
{
    counters_read(&ram_wait.vcpus, &stats->vcpu_waits, &stats->vcpu_ns,
                  stats->vcpu_latency);
    counters_read(&ram_wait.others, &stats->waits, &stats->ns, stats->latency);
}
