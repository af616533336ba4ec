/*
 * RAM wait tests
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/resource.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "exec/ramblock.h"
#include "system/ram-wait.h"
#include "system/userfault-view.h"
#include "ram-helpers.h"

#define HUGE_SIZE (2 * MiB)

/* --- Pages that arrive in a block --- */

/* All pages are missing, for another migration. */
static void block_clear(RAMBlock *rb)
{
    bitmap_zero(rb->receivedmap, rb->used_length >> TARGET_BITS);
    memset(rb->host, 0, rb->used_length);
}

static void set_received(RAMBlock *rb, ram_addr_t offset)
{
    set_bit_atomic(offset >> TARGET_BITS, rb->receivedmap);
}

/* Nobody reads a page but at these places. */
static uint64_t *page_stamp(RAMBlock *rb, ram_addr_t offset, bool last)
{
    return (uint64_t *)(rb->host + offset +
                        (last ? TARGET_SIZE - sizeof(uint64_t) : 0));
}

static uint64_t stamp(RAMBlock *rb, ram_addr_t offset)
{
    return ((uint64_t)(uint8_t)rb->idstr[0] << 56) | (offset + 1);
}

/* A page arrives, as in migration: a piece, if the block has huge pages. */
static void place(RAMBlock *rb, ram_addr_t offset)
{
    uint64_t page[TARGET_SIZE / sizeof(uint64_t)] = { };

    page[0] = page[ARRAY_SIZE(page) - 1] = stamp(rb, offset);
    memcpy(rb->host + offset, page, TARGET_SIZE);
    set_received(rb, offset);
    userfault_views_clear(rb, offset, TARGET_SIZE);
    ram_wait_page_present(rb, offset);
}

static void place_all(RAMBlock *rb)
{
    for (ram_addr_t i = 0; i < rb->used_length; i += TARGET_SIZE) {
        if (ram_wait_page_missing(rb, i)) {
            place(rb, i);
        }
    }
}

/* --- The resolver --- */

static struct {
    QemuEvent event;
    unsigned int nr;
} notified;

static void notify(void *opaque)
{
    g_assert_true(opaque == &notified);
    qatomic_inc(&notified.nr);
    qemu_event_set(&notified.event);
}

/* What a waiter's own thread does for it; NULL: nothing. */
static bool (*send_itself)(const RAMWaiter *w, void *opaque);

static void enable(void)
{
    RAMWaitResolver resolver = {
        .notify = notify,
        .send = send_itself,
        .opaque = &notified,
    };

    qatomic_set(&notified.nr, 0);
    ram_wait_enable(&resolver);
}

static void disable(void)
{
    RAMWaitRequest req;

    g_assert_false(ram_wait_next_request(&req));
    ram_wait_disable();
    g_assert_false(ram_wait_active);
}

static RAMWaitRequest take_request(void)
{
    RAMWaitRequest req;

    for (;;) {
        qemu_event_reset(&notified.event);
        if (ram_wait_next_request(&req)) {
            return req;
        }
        qemu_event_wait(&notified.event);
    }
}

static void assert_no_request(void)
{
    RAMWaitRequest req;

    g_assert_false(ram_wait_next_request(&req));
}

/* --- Threads that access memory --- */

typedef struct Access {
    QemuThread thread;
    RAMBlock *rb;
    ram_addr_t offset;
    ram_addr_t length;
    uint32_t tid;
    bool done;
} Access;

static void assert_stamps(RAMBlock *rb, ram_addr_t offset, ram_addr_t length)
{
    ram_addr_t end = MIN(offset + length, rb->postcopy_length);

    for (ram_addr_t i = ROUND_DOWN(offset, TARGET_SIZE); i < end;
         i += TARGET_SIZE) {
        g_assert_cmphex(*page_stamp(rb, i, false), ==, stamp(rb, i));
        g_assert_cmphex(*page_stamp(rb, i, true), ==, stamp(rb, i));
    }
}

static void *access_thread(void *opaque)
{
    Access *a = opaque;

    rcu_register_thread();
    qatomic_set(&a->tid, qemu_get_thread_id());
    ram_wait_for(a->rb, a->offset, a->length);
    assert_stamps(a->rb, a->offset, a->length);
    qatomic_store_release(&a->done, true);
    rcu_unregister_thread();
    return NULL;
}

static Access *access_start(RAMBlock *rb, ram_addr_t offset, ram_addr_t length)
{
    Access *a = g_new0(Access, 1);

    a->rb = rb;
    a->offset = offset;
    a->length = length;
    qemu_thread_create(&a->thread, "access", access_thread, a,
                       QEMU_THREAD_JOINABLE);
    return a;
}

/* Give a thread that should wait the time not to. */
static void assert_waits(Access *a)
{
    g_usleep(2000);
    g_assert_false(qatomic_load_acquire(&a->done));
}

static void access_end(Access *a)
{
    qemu_thread_join(&a->thread);
    g_assert_true(a->done);
    g_free(a);
}

/* Take a request that must be for one page. */
static void take_page(Access *a, ram_addr_t offset)
{
    RAMWaitRequest req = take_request();

    g_assert_true(req.rb == a->rb);
    g_assert_cmphex(req.offset, ==, offset);
    g_assert_cmpuint(req.tid, ==, qatomic_read(&a->tid));
}

/* --- Waiters without a thread --- */

typedef struct Waiter {
    RAMWaiter w;
    unsigned int woken;
} Waiter;

static void wake(RAMWaiter *w)
{
    Waiter *waiter = w->opaque;

    g_assert_true(&waiter->w == w);
    waiter->woken++;
}

static void waiter_init(Waiter *waiter, RAMBlock *rb, ram_addr_t offset)
{
    *waiter = (Waiter) {
        .w = {
            .rb = rb,
            .offset = offset,
            .tid = 1 + offset / TARGET_SIZE,
            .wake = wake,
            .opaque = waiter,
        },
    };
}

static bool waiter_add(Waiter *waiter)
{
    RCU_READ_LOCK_GUARD();
    return ram_wait_add(&waiter->w);
}

/* Wait for a page, and take it back whether it has come or not. */
static void waiter_del(Waiter *waiter, bool present)
{
    g_assert_true(ram_wait_del(&waiter->w) == present);
    g_assert_cmpuint(waiter->woken, ==, present);
    memset(waiter, 0xa5, sizeof(*waiter));
}

/* --- Events, which outlive who waits with them --- */

typedef struct Event {
    struct rcu_head rcu;
    QemuEvent event;
} Event;

static Event *event_new(void)
{
    Event *event = g_new0(Event, 1);

    qemu_event_init(&event->event, false);
    return event;
}

static void event_reclaim(Event *event)
{
    qemu_event_destroy(&event->event);
    g_free(event);
}

static void event_free(Event *event)
{
    call_rcu(event, event_reclaim, rcu);
}

/* --- Tests --- */

/* Also before it was enabled for the first time: no lock is ready. */
static void test_off(void)
{
    RAMBlock *rb = block_new_mapped("off", TARGET_SIZE, 4);
    Waiter waiter;

    g_assert_false(ram_wait_active);
    ram_wait_for(rb, 0, 4 * TARGET_SIZE);
    ram_wait_for_slow(rb, 0, 4 * TARGET_SIZE);
    g_assert_true(ram_wait_page_missing(rb, 0));

    waiter_init(&waiter, rb, 0);
    g_assert_false(waiter_add(&waiter));
    place(rb, 0);
    g_assert_cmpuint(waiter.woken, ==, 0);
    assert_no_request();
    block_free(rb);
}

static void assert_idle(void)
{
    RAMWaitStats stats;

    assert_no_request();
    g_assert_cmpuint(notified.nr, ==, 0);
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.waits, ==, 0);
    g_assert_cmpuint(stats.vcpu_waits, ==, 0);
}

static void test_present(void)
{
    RAMBlock *rb = block_new_mapped("present", TARGET_SIZE, 100);
    Waiter waiter;

    enable();
    place_all(rb);
    ram_wait_for(rb, 0, 100 * TARGET_SIZE);
    ram_wait_for(rb, 99 * TARGET_SIZE + 1, 1);
    waiter_init(&waiter, rb, 5 * TARGET_SIZE);
    g_assert_false(waiter_add(&waiter));
    g_assert_false(ram_wait_page_missing(rb, 5 * TARGET_SIZE));
    assert_idle();
    disable();
    block_free(rb);
}

static void test_one(void)
{
    RAMBlock *rb = block_new_mapped("one", TARGET_SIZE, 4);
    ram_addr_t page = 2 * TARGET_SIZE;
    Access *a;

    enable();
    a = access_start(rb, page + 123, 8);
    take_page(a, page);
    assert_waits(a);
    /* Others do not matter. */
    place(rb, page - TARGET_SIZE);
    place(rb, page + TARGET_SIZE);
    assert_waits(a);
    assert_no_request();
    place(rb, page);
    access_end(a);
    disable();
    block_free(rb);
}

/* One byte on each side; the second page comes first, then the other way. */
static void test_straddle(void)
{
    for (int first = 0; first < 2; first++) {
        RAMBlock *rb = block_new_mapped("straddle", TARGET_SIZE, 4);
        ram_addr_t pages[2] = { TARGET_SIZE, 2 * TARGET_SIZE };
        ram_addr_t seen = 0;
        Access *a;

        enable();
        a = access_start(rb, pages[1] - 1, 2);
        for (int i = 0; i < 2; i++) {
            seen |= take_request().offset;
        }
        g_assert_cmphex(seen, ==, pages[0] | pages[1]);
        place(rb, pages[first]);
        assert_waits(a);
        place(rb, pages[!first]);
        access_end(a);
        assert_no_request();
        disable();
        block_free(rb);
    }
}

/*
 * More pages than are asked for at once, some of which are there.  The
 * page that was asked for last is the first to come.
 */
static void test_batch(void)
{
    enum { NPAGES = 75, FIRST = 3, LAST = 70 };
    RAMBlock *rb = block_new_mapped("batch", TARGET_SIZE, NPAGES);
    g_autofree unsigned long *asked = bitmap_new(NPAGES);
    unsigned int missing = 0, nr = 0;
    RAMWaitRequest stack[NPAGES];
    RAMWaitStats stats;
    Access *a;

    enable();
    for (int i = 0; i < NPAGES; i++) {
        if (i % 7 == 0) {
            place(rb, i * TARGET_SIZE);
        } else {
            missing += i >= FIRST && i <= LAST;
        }
    }
    a = access_start(rb, FIRST * TARGET_SIZE + 8,
                     (LAST - FIRST) * TARGET_SIZE);
    while (missing) {
        if (!nr) {
            stack[nr++] = take_request();
        }
        while (ram_wait_next_request(&stack[nr])) {
            nr++;
        }
        nr--;
        g_assert_false(test_and_set_bit(stack[nr].offset >> TARGET_BITS,
                                        asked));
        g_assert_true(ram_wait_page_missing(rb, stack[nr].offset));
        place(rb, stack[nr].offset);
        missing--;
    }
    access_end(a);
    for (int i = 0; i < NPAGES; i++) {
        g_assert_true(test_bit(i, asked) ==
                      (i % 7 && i >= FIRST && i <= LAST));
    }
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.waits, ==, 1);
    disable();
    block_free(rb);
}

static void test_beyond(void)
{
    RAMBlock *rb = block_new_mapped("beyond", TARGET_SIZE, 8);
    unsigned long *map = rb->receivedmap;
    Access *a;

    enable();
    rb->postcopy_length = 3 * TARGET_SIZE;
    g_assert_true(ram_wait_page_missing(rb, 3 * TARGET_SIZE - 1));
    g_assert_false(ram_wait_page_missing(rb, 3 * TARGET_SIZE));
    ram_wait_for(rb, 3 * TARGET_SIZE, 5 * TARGET_SIZE);
    ram_wait_for(rb, 20 * TARGET_SIZE, 1);
    assert_idle();
    a = access_start(rb, 2 * TARGET_SIZE, 6 * TARGET_SIZE);
    take_page(a, 2 * TARGET_SIZE);
    assert_no_request();
    place(rb, 2 * TARGET_SIZE);
    access_end(a);

    /* A block that is not migrated. */
    rb->receivedmap = NULL;
    g_assert_false(ram_wait_page_missing(rb, 0));
    ram_wait_for(rb, 0, 8 * TARGET_SIZE);
    rb->receivedmap = map;
    rb->postcopy_length = 0;
    g_assert_false(ram_wait_page_missing(rb, 0));
    ram_wait_for(rb, 0, 8 * TARGET_SIZE);
    assert_no_request();
    disable();
    block_free(rb);
}

static void test_shared(gconstpointer opaque)
{
    unsigned int nr = GPOINTER_TO_UINT(opaque);
    RAMBlock *rb = block_new_mapped("shared", TARGET_SIZE, 2);
    g_autofree Access **a = g_new(Access *, nr);
    g_autoptr(GHashTable) tids = g_hash_table_new(NULL, NULL);
    RAMWaitStats stats;

    enable();
    for (int i = 0; i < nr; i++) {
        a[i] = access_start(rb, TARGET_SIZE + i, 1);
    }
    for (int i = 0; i < nr; i++) {
        RAMWaitRequest req = take_request();

        g_assert_cmphex(req.offset, ==, TARGET_SIZE);
        g_assert_true(g_hash_table_add(tids, GUINT_TO_POINTER(req.tid)));
    }
    assert_waits(a[nr - 1]);
    place(rb, TARGET_SIZE);
    for (int i = 0; i < nr; i++) {
        access_end(a[i]);
    }
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.waits, ==, nr);
    disable();
    block_free(rb);
}

/* More waiters than are woken at once, of both kinds; one of another page. */
static void test_crowd(void)
{
    enum { NR = 100 };
    RAMBlock *rb = block_new_mapped("crowd", TARGET_SIZE, 2);
    g_autofree Waiter *waiters = g_new(Waiter, NR + 1);
    Event *events[NR + 1];

    enable();
    for (int i = 0; i <= NR; i++) {
        events[i] = event_new();
        waiter_init(&waiters[i], rb, i < NR ? 0 : TARGET_SIZE);
        if (i % 3) {
            waiters[i].w.event = &events[i]->event;
        }
        g_assert_true(waiter_add(&waiters[i]));
        take_request();
    }
    place(rb, 0);
    for (int i = 0; i < NR; i++) {
        g_assert_true(waiters[i].w.present);
        g_assert_cmpuint(waiters[i].woken, ==, !waiters[i].w.event);
        if (waiters[i].w.event) {
            /* Does not return if nobody has set it. */
            qemu_event_wait(waiters[i].w.event);
        }
        g_assert_true(ram_wait_del(&waiters[i].w));
    }
    g_assert_false(ram_wait_del(&waiters[NR].w));
    for (int i = 0; i <= NR; i++) {
        event_free(events[i]);
    }
    place(rb, TARGET_SIZE);
    disable();
    block_free(rb);
}

/*
 * More pages than there are locks, in one block, and at the same offset of many
 * blocks: each wakes its own.
 */
static void check_many(unsigned int nblocks, unsigned int npages)
{
    unsigned int count = nblocks * npages;
    g_autofree RAMBlock **rb = g_new(RAMBlock *, nblocks);
    g_autofree Waiter *waiters = g_new(Waiter, count);
    g_autofree unsigned long *asked = bitmap_new(count);
    RAMWaitRequest req;

    enable();
    for (int i = 0; i < nblocks; i++) {
        rb[i] = block_new_mapped("many", TARGET_SIZE, npages);
    }
    for (int i = 0; i < count; i++) {
        waiter_init(&waiters[i], rb[i % nblocks], i / nblocks * TARGET_SIZE);
        waiters[i].w.tid = i;
        g_assert_true(waiter_add(&waiters[i]));
    }
    g_assert_cmpuint(notified.nr, ==, 1);
    for (int i = 0; i < count; i++) {
        g_assert_true(ram_wait_next_request(&req));
        g_assert_false(test_and_set_bit(req.tid, asked));
        g_assert_true(req.rb == waiters[req.tid].w.rb);
        g_assert_cmphex(req.offset, ==, waiters[req.tid].w.offset);
    }
    assert_no_request();
    for (int i = 0; i < count; i++) {
        place(waiters[i].w.rb, waiters[i].w.offset);
        for (int j = 0; j < count; j++) {
            g_assert_cmpuint(waiters[j].woken, ==, j <= i);
        }
    }
    for (int i = 0; i < count; i++) {
        waiter_del(&waiters[i], true);
    }
    disable();
    for (int i = 0; i < nblocks; i++) {
        block_free(rb[i]);
    }
}

static void test_many(void)
{
    check_many(1, 200);
    check_many(2, 200);
    check_many(150, 2);
}

static void test_notify(void)
{
    RAMBlock *rb = block_new_mapped("notify", TARGET_SIZE, 100);
    g_autofree Waiter *waiters = g_new(Waiter, 100);
    RAMWaitRequest req;
    int n = 0;

    enable();
    for (int i = 0; i < 100; i++) {
        waiter_init(&waiters[i], rb, i * TARGET_SIZE);
    }
    g_assert_true(waiter_add(&waiters[n++]));
    g_assert_cmpuint(notified.nr, ==, 1);
    while (n < 50) {
        g_assert_true(waiter_add(&waiters[n++]));
    }
    g_assert_cmpuint(notified.nr, ==, 1);

    /* Who was told takes all, also those that come meanwhile. */
    for (int i = 0; i < 60; i++) {
        g_assert_true(ram_wait_next_request(&req));
        if (n < 60) {
            g_assert_true(waiter_add(&waiters[n++]));
        }
    }
    assert_no_request();
    g_assert_cmpuint(notified.nr, <=, 2);

    /* Whenever there were none, the first one notifies. */
    while (n < 100) {
        unsigned int before = notified.nr;

        g_assert_true(waiter_add(&waiters[n++]));
        g_assert_cmpuint(notified.nr, ==, before + 1);
        g_assert_true(waiter_add(&waiters[n++]));
        g_assert_cmpuint(notified.nr, ==, before + 1);
        g_assert_true(ram_wait_next_request(&req));
        g_assert_true(ram_wait_next_request(&req));
        assert_no_request();
    }
    place_all(rb);
    for (int i = 0; i < 100; i++) {
        waiter_del(&waiters[i], true);
    }
    disable();
    block_free(rb);
}

/* --- Waiters that send their requests themselves --- */

static unsigned int sent;

static bool send_it(const RAMWaiter *w, void *opaque)
{
    g_assert_true(opaque == &notified);
    sent++;
    return true;
}

static bool send_not(const RAMWaiter *w, void *opaque)
{
    sent++;
    return false;
}

/* Without a lock: the page comes, and its waiter is woken, meanwhile. */
static bool send_and_place(const RAMWaiter *w, void *opaque)
{
    place(w->rb, w->offset);
    return false;
}

static void check_sends(bool (*send)(const RAMWaiter *w, void *opaque),
                        bool sends, unsigned int nr_sent, bool queued,
                        bool present)
{
    RAMBlock *rb = block_new_mapped("sends", TARGET_SIZE, 1);
    RAMWaitRequest req;
    Waiter waiter;

    sent = 0;
    send_itself = send;
    enable();
    waiter_init(&waiter, rb, 0);
    waiter.w.sends = sends;
    g_assert_true(waiter_add(&waiter));
    g_assert_cmpuint(sent, ==, nr_sent);
    g_assert_cmpuint(notified.nr, ==, queued);
    g_assert_true(ram_wait_next_request(&req) == queued);
    g_assert_true(waiter.w.present == present);
    if (!present) {
        place(rb, 0);
    }
    waiter_del(&waiter, true);

    /* It is there: nothing to send. */
    sent = 0;
    waiter_init(&waiter, rb, 0);
    waiter.w.sends = sends;
    g_assert_false(waiter_add(&waiter));
    g_assert_cmpuint(sent, ==, 0);
    assert_no_request();
    disable();
    send_itself = NULL;
    block_free(rb);
}

static void test_sends(void)
{
    check_sends(send_it, true, 1, false, false);
    /* The link is not free. */
    check_sends(send_not, true, 1, true, false);
    check_sends(send_and_place, true, 0, false, true);
    /* Others, and resolvers that can't. */
    check_sends(send_it, false, 0, true, false);
    check_sends(NULL, true, 0, true, false);
}

static void test_del_before(void)
{
    RAMBlock *rb = block_new_mapped("del", TARGET_SIZE, 2);
    RAMWaitRequest req;
    Waiter waiters[3];

    enable();
    for (int i = 0; i < 3; i++) {
        waiter_init(&waiters[i], rb, 0);
        waiters[i].w.tid = i;
        g_assert_true(waiter_add(&waiters[i]));
    }
    waiter_del(&waiters[1], false);
    waiter_del(&waiters[0], false);
    /* The request is his who still waits. */
    g_assert_true(ram_wait_next_request(&req));
    g_assert_cmpuint(req.tid, ==, 2);
    assert_no_request();
    place(rb, 0);
    waiter_del(&waiters[2], true);

    waiter_init(&waiters[0], rb, TARGET_SIZE);
    g_assert_true(waiter_add(&waiters[0]));
    waiter_del(&waiters[0], false);
    assert_no_request();
    place(rb, TARGET_SIZE);
    disable();
    block_free(rb);
}

static void test_del_after(void)
{
    RAMBlock *rb = block_new_mapped("del", TARGET_SIZE, 1);
    RAMWaitRequest req;
    Waiter waiters[2];

    enable();
    waiter_init(&waiters[0], rb, 0);
    g_assert_true(waiter_add(&waiters[0]));
    g_assert_true(ram_wait_next_request(&req));
    waiter_del(&waiters[0], false);
    assert_no_request();

    /* It asks again, as a vCPU that was kicked does. */
    waiter_init(&waiters[1], rb, 0);
    g_assert_true(waiter_add(&waiters[1]));
    g_assert_true(ram_wait_next_request(&req));
    place(rb, 0);
    waiter_del(&waiters[1], true);
    assert_no_request();
    disable();
    block_free(rb);
}

static void race_setup(Race *race, unsigned int nr,
                       void (*other)(Race *race, ram_addr_t offset))
{
    *race = (Race) {
        .rb = block_new("race", TARGET_SIZE, 64),
        .rounds = nr,
        .pause = 29,
        .other = other,
    };
    enable();
    race_begin(race);
}

static void race_teardown(Race *race)
{
    race_end(race);
    disable();
    block_free(race->rb);
}

/* Waiters for this round's pages, which are missing. */
static void race_waiters(Race *race, unsigned int round, Waiter *waiters)
{
    for (int i = 0; i < RACE_PAGES; i++) {
        waiter_init(&waiters[i], race->rb, race_page(race, round, i));
        clear_bit(waiters[i].w.offset >> TARGET_BITS, race->rb->receivedmap);
    }
}

static void race_present(Race *race, ram_addr_t offset)
{
    set_received(race->rb, offset);
    ram_wait_page_present(race->rb, offset);
}

/* Pages arrive while somebody begins to wait: he sees it, or is woken. */
static void test_race_add(void)
{
    Waiter waiters[RACE_PAGES];
    bool added[RACE_PAGES];
    Race race;

    race_setup(&race, rounds(200000), race_present);
    for (unsigned int i = 0; i < race.rounds; i++) {
        race_waiters(&race, i, waiters);
        race_start(&race, i);
        for (int j = 0; j < RACE_PAGES; j++) {
            added[j] = waiter_add(&waiters[j]);
        }
        race_finish(&race, i);

        for (int j = 0; j < RACE_PAGES; j++) {
            g_assert_cmpuint(waiters[j].woken, ==, added[j]);
            if (added[j]) {
                waiter_del(&waiters[j], true);
            }
        }
    }
    race_teardown(&race);
}

static void race_take_and_present(Race *race, ram_addr_t offset)
{
    RAMWaitRequest req;

    if (offset & TARGET_SIZE) {
        ram_wait_next_request(&req);
    }
    race_present(race, offset);
}

/* Pages arrive while somebody gives up: he is woken before that, or never. */
static void test_race_del(void)
{
    Waiter waiters[RACE_PAGES], gone[RACE_PAGES];
    Race race;

    memset(gone, 0xa5, sizeof(gone));
    race_setup(&race, rounds(200000), race_take_and_present);
    for (unsigned int i = 0; i < race.rounds; i++) {
        race_waiters(&race, i, waiters);
        for (int j = 0; j < RACE_PAGES; j++) {
            g_assert_true(waiter_add(&waiters[j]));
        }
        race_start(&race, i);
        for (int j = 0; j < RACE_PAGES; j++) {
            bool present = ram_wait_del(&waiters[j].w);

            g_assert_cmpuint(waiters[j].woken, ==, present);
            memset(&waiters[j], 0xa5, sizeof(waiters[j]));
        }
        race_finish(&race, i);
        g_assert_cmpmem(waiters, sizeof(waiters), gone, sizeof(gone));
    }
    race_teardown(&race);
}

typedef struct DrainRace {
    Race race;
    unsigned int taken;
    unsigned int notified;
} DrainRace;

static void race_drain(Race *race, ram_addr_t offset)
{
    DrainRace *drain = container_of(race, DrainRace, race);
    RAMWaitRequest req;

    drain->notified = qatomic_read(&notified.nr);
    while (ram_wait_next_request(&req)) {
        drain->taken++;
    }
}

/* Somebody asks while the resolver finds nothing more: it is told again. */
static void test_race_notify(void)
{
    Waiter waiters[RACE_PAGES];
    RAMWaitRequest req;
    DrainRace drain;
    Race *race = &drain.race;

    race_setup(race, rounds(100000), race_drain);
    for (unsigned int i = 0; i < race->rounds; i++) {
        unsigned int left = 0;

        drain.taken = 0;
        race_waiters(race, i, waiters);
        race_start(race, i);
        for (int j = 0; j < RACE_PAGES; j++) {
            g_assert_true(waiter_add(&waiters[j]));
        }
        race_finish(race, i);

        while (ram_wait_next_request(&req)) {
            left++;
        }
        g_assert_cmpuint(drain.taken + left, ==, RACE_PAGES);
        if (left) {
            g_assert_cmpuint(notified.nr, >, drain.notified);
        }
        for (int j = 0; j < RACE_PAGES; j++) {
            waiter_del(&waiters[j], false);
        }
    }
    race_teardown(race);
}

/* A thread and its event are gone as soon as it sees the page's bit. */
static void test_race_exit(void)
{
    enum { NR = 4 };
    RAMBlock *rb = block_new_mapped("exit", TARGET_SIZE, 1);

    enable();
    for (unsigned int i = rounds(2000); i; i--) {
        Access *a[NR];

        for (int j = 0; j < NR; j++) {
            a[j] = access_start(rb, 0, 1);
        }
        /* In the middle of it: some wait already. */
        take_request();
        place(rb, 0);
        for (int j = 0; j < NR; j++) {
            access_end(a[j]);
        }
        assert_no_request();
        block_clear(rb);
    }
    disable();
    block_free(rb);
}

/* --- Many threads that wait for random pages, several migrations long --- */

typedef struct Stress {
    RAMBlock *rb;
    /* Pages that are placed, or about to be. */
    unsigned long *claimed;
    /* The stream, as far as it has been read, if it brings pages itself. */
    ram_addr_t next;
    bool pushes;
    unsigned int accesses;
    unsigned int seed;
    /* Of the resolver, which is one thread at a time. */
    QemuMutex lock;
    bool stop;
} Stress;

static void stress_place(Stress *s, ram_addr_t offset)
{
    unsigned long nr = offset / TARGET_SIZE;
    unsigned long *word = &s->claimed[BIT_WORD(nr)];

    if (!(qatomic_fetch_or(word, BIT_MASK(nr)) & BIT_MASK(nr))) {
        place(s->rb, offset);
    }
}

static bool stress_work(Stress *s)
{
    RAMWaitRequest req;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        if (!ram_wait_next_request(&req)) {
            if (!s->pushes || s->next >= s->rb->used_length) {
                return false;
            }
            req.offset = s->next;
            s->next += TARGET_SIZE;
        }
    }
    stress_place(s, req.offset);
    return true;
}

static void *stress_resolver(void *opaque)
{
    Stress *s = opaque;

    rcu_register_thread();
    ram_wait_resolver(true);
    while (!qatomic_read(&s->stop)) {
        qemu_event_reset(&notified.event);
        if (!stress_work(s) && !qatomic_read(&s->stop)) {
            qemu_event_wait(&notified.event);
        }
    }
    /* The other one's reset may have come after the last set. */
    qemu_event_set(&notified.event);
    rcu_unregister_thread();
    return NULL;
}

/* Anywhere, mostly small, sometimes across a number of pages. */
static void stress_range(Stress *s, GRand *rand, ram_addr_t *offset,
                         ram_addr_t *length)
{
    size_t pages = g_rand_int(rand) % 32 ? 2 : 40;

    *offset = g_rand_double(rand) * s->rb->used_length;
    *length = 1 + g_rand_double(rand) * pages * TARGET_SIZE;
}

static GRand *stress_rand(Stress *s)
{
    return g_rand_new_with_seed(qatomic_fetch_inc(&s->seed));
}

static void *stress_device(void *opaque)
{
    Stress *s = opaque;
    GRand *rand = stress_rand(s);

    rcu_register_thread();
    for (int i = 0; i < s->accesses; i++) {
        ram_addr_t offset, length;

        stress_range(s, rand, &offset, &length);
        ram_wait_for(s->rb, offset, length);
        assert_stamps(s->rb, offset, length);
    }
    rcu_unregister_thread();
    g_rand_free(rand);
    return NULL;
}

/* Returns false if the vCPU was "kicked". */
static bool vcpu_wait(RAMWaiter *w, bool kicked)
{
    for (;;) {
        qemu_event_reset(w->event);
        if (qatomic_read(&w->present) || kicked) {
            break;
        }
        qemu_event_wait(w->event);
    }
    return ram_wait_del(w);
}

static void *stress_vcpu(void *opaque)
{
    Stress *s = opaque;
    GRand *rand = stress_rand(s);
    Event *event = event_new();

    rcu_register_thread();
    for (int i = 0; i < s->accesses; i++) {
        ram_addr_t offset, length;

        stress_range(s, rand, &offset, &length);
        offset = ROUND_DOWN(offset, TARGET_SIZE);
        for (;;) {
            RAMWaiter w = {
                .rb = s->rb,
                .offset = offset,
                .tid = qemu_get_thread_id(),
                .event = &event->event,
            };
            bool added;

            WITH_RCU_READ_LOCK_GUARD() {
                added = ram_wait_add(&w);
            }
            if (!added || vcpu_wait(&w, g_rand_int(rand) % 4 == 0)) {
                break;
            }
        }
        assert_stamps(s->rb, offset, 1);
    }
    event_free(event);
    rcu_unregister_thread();
    g_rand_free(rand);
    return NULL;
}

static void stress_run(Stress *s, unsigned int nr_resolvers)
{
    enum { NR = 8 };
    QemuThread resolvers[2], threads[NR];

    for (int i = 0; i < NR; i++) {
        qemu_thread_create(&threads[i], "stress",
                           i % 2 ? stress_vcpu : stress_device, s,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < nr_resolvers; i++) {
        qemu_thread_create(&resolvers[i], "resolver", stress_resolver, s,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < NR; i++) {
        qemu_thread_join(&threads[i]);
    }
    qatomic_set(&s->stop, true);
    qemu_event_set(&notified.event);
    for (int i = 0; i < nr_resolvers; i++) {
        qemu_thread_join(&resolvers[i]);
    }
}

static void stress(size_t page_size, size_t npages, unsigned int migrations)
{
    RAMBlock *rb = block_new_mapped("stress", page_size, npages);

    for (int i = 0; i < migrations; i++) {
        g_autofree unsigned long *claimed = bitmap_new(rb->used_length /
                                                       TARGET_SIZE);
        Stress s = {
            .rb = rb,
            .claimed = claimed,
            .accesses = rounds(20000),
            .seed = i * 1000,
            .pushes = i & 1,
        };

        qemu_mutex_init(&s.lock);
        enable();
        stress_run(&s, 1 + (i / 2) % 2);
        place_all(rb);
        /* Requests that were taken back may have left hints. */
        disable();
        qemu_mutex_destroy(&s.lock);
        block_clear(rb);
    }
    block_free(rb);
}

static void test_stress(void)
{
    stress(TARGET_SIZE, 4096, 8);
}

static void test_stress_huge(void)
{
    stress(HUGE_SIZE, 8, 4);
}

/* A piece of a huge page is waited for, asked for and woken by itself. */
static void test_huge(void)
{
    RAMBlock *rb = block_new_mapped("huge", HUGE_SIZE, 2);
    ram_addr_t piece = HUGE_SIZE + 5 * TARGET_SIZE, seen = 0;
    Access *a, *b;

    enable();
    a = access_start(rb, piece + 7, 1);
    take_page(a, piece);
    b = access_start(rb, HUGE_SIZE - 1, 2);
    for (int i = 0; i < 2; i++) {
        seen |= take_request().offset;
    }
    g_assert_cmphex(seen, ==, HUGE_SIZE | (HUGE_SIZE - TARGET_SIZE));
    assert_no_request();
    for (ram_addr_t i = 0; i < 2 * HUGE_SIZE; i += TARGET_SIZE) {
        if (i != piece && i != HUGE_SIZE) {
            place(rb, i);
        }
    }
    assert_waits(a);
    assert_waits(b);
    g_assert_true(ram_wait_page_missing(rb, piece + TARGET_SIZE - 1));
    place(rb, piece);
    g_assert_false(ram_wait_page_missing(rb, piece + TARGET_SIZE - 1));
    access_end(a);
    assert_waits(b);
    place(rb, HUGE_SIZE);
    access_end(b);
    disable();
    block_free(rb);
}

/* --- Counters --- */

static uint64_t sum(const uint64_t *latency)
{
    uint64_t n = 0;

    for (int i = 0; i < RAM_WAIT_LATENCY_BUCKETS; i++) {
        n += latency[i];
    }
    return n;
}

static void test_stats(void)
{
    RAMBlock *rb = block_new_mapped("stats", TARGET_SIZE, 8);
    RAMWaitStats stats;
    RAMWaitRequest req;
    Waiter waiter;
    int64_t begin_ns;
    Access *a;

    enable();
    begin_ns = g_get_monotonic_time() * 1000;
    a = access_start(rb, TARGET_SIZE, 5 * TARGET_SIZE);
    for (int i = 0; i < 5; i++) {
        take_request();
    }
    g_usleep(2000);
    place_all(rb);
    access_end(a);
    ram_wait_for(rb, 0, 8 * TARGET_SIZE);
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.waits, ==, 1);
    g_assert_cmpuint(sum(stats.latency), ==, 5);
    /* Once for all pages: it waited for them at the same time. */
    g_assert_cmpuint(stats.ns, >=, 2000000);
    g_assert_cmpuint(stats.ns, <, g_get_monotonic_time() * 1000 - begin_ns);
    g_assert_cmpuint(stats.vcpu_waits, ==, 0);
    g_assert_cmpuint(stats.vcpu_ns, ==, 0);
    g_assert_cmpuint(sum(stats.vcpu_latency), ==, 0);
    disable();

    /* Kept until the next time. */
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.waits, ==, 1);
    block_clear(rb);
    enable();
    assert_idle();
    waiter_init(&waiter, rb, 0);
    g_assert_true(waiter_add(&waiter));
    g_assert_true(ram_wait_next_request(&req));
    g_usleep(2000);
    place(rb, 0);
    ram_wait_count_vcpu(&waiter.w);
    waiter_del(&waiter, true);
    ram_wait_stats(&stats);
    g_assert_cmpuint(stats.vcpu_waits, ==, 1);
    g_assert_cmpuint(stats.vcpu_ns, >=, 2000000);
    g_assert_cmpuint(sum(stats.vcpu_latency), ==, 1);
    g_assert_cmpuint(stats.waits, ==, 0);
    g_assert_cmpuint(stats.ns, ==, 0);
    g_assert_cmpuint(sum(stats.latency), ==, 0);
    disable();
    block_free(rb);
}

/* --- Nobody makes progress --- */

static void test_stuck(void)
{
    RAMBlock *rb = block_new_mapped("stuck", TARGET_SIZE, 8);
    int64_t before, stuck;
    Waiter waiter;
    Access *a, *b;

    enable();
    g_assert_cmpint(ram_wait_stuck_ns(), ==, 0);
    /* vCPUs do not count. */
    waiter_init(&waiter, rb, 7 * TARGET_SIZE);
    g_assert_true(waiter_add(&waiter));
    take_request();
    g_assert_cmpint(ram_wait_stuck_ns(), ==, 0);

    before = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    a = access_start(rb, 0, 1);
    take_page(a, 0);
    b = access_start(rb, TARGET_SIZE, 1);
    take_page(b, TARGET_SIZE);
    /* It grows. */
    do {
        stuck = ram_wait_stuck_ns();
    } while (stuck < 20 * SCALE_MS);
    g_assert_cmpint(stuck, <=,
                    qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - before);

    /* One goes on: the other has not been alone for long. */
    before = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    place(rb, 0);
    access_end(a);
    stuck = ram_wait_stuck_ns();
    g_assert_cmpint(stuck, >, 0);
    g_assert_cmpint(stuck, <=,
                    qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - before);

    place(rb, TARGET_SIZE);
    access_end(b);
    g_assert_cmpint(ram_wait_stuck_ns(), ==, 0);
    place(rb, 7 * TARGET_SIZE);
    waiter_del(&waiter, true);
    disable();
    block_free(rb);
}

static int latency_bucket(int64_t since)
{
    int64_t us = (qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - since) / 1000;

    return us < 2 ? 0 : MIN(63 - clz64(us), RAM_WAIT_LATENCY_BUCKETS - 1);
}

static void test_latency(void)
{
    RAMWaitStats stats;

    for (int i = -1; i < 40; i++) {
        int64_t now, ago = i < 0 ? -SCALE_MS : (1000LL << i) + (500LL << i);
        RAMWaiter w = { };
        int first, last, n = 0;

        enable();
        now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        w.since_ns = now - ago;
        first = latency_bucket(w.since_ns);
        ram_wait_count_vcpu(&w);
        last = latency_bucket(w.since_ns);
        disable();

        g_assert_cmpint(first, >=, MIN(MAX(i, 0),
                                       RAM_WAIT_LATENCY_BUCKETS - 1));
        ram_wait_stats(&stats);
        for (int j = first; j <= last; j++) {
            n += stats.vcpu_latency[j];
        }
        g_assert_cmpint(n, ==, 1);
        g_assert_cmpuint(sum(stats.vcpu_latency), ==, 1);
    }
}

/* --- Who gets pages must not wait for them --- */

static void die_quietly(void)
{
    struct rlimit limit = { 0 };

    setrlimit(RLIMIT_CORE, &limit);
    enable();
    ram_wait_resolver(true);
}

static void test_resolver_wait(void)
{
    RAMBlock *rb = block_new_mapped("resolver", TARGET_SIZE, 1);

    die_quietly();
    /* Even if it would not have to wait, this time. */
    place(rb, 0);
    ram_wait_for(rb, 0, 1);
}

static void test_resolver_add(void)
{
    RAMBlock *rb = block_new_mapped("resolver", TARGET_SIZE, 1);
    Waiter waiter;

    die_quietly();
    waiter_init(&waiter, rb, 0);
    waiter_add(&waiter);
}

static void test_unaligned(void)
{
    RAMBlock *rb = block_new_mapped("unaligned", HUGE_SIZE, 1);
    Waiter waiter;

    die_quietly();
    ram_wait_resolver(false);
    waiter_init(&waiter, rb, TARGET_SIZE / 2);
    waiter_add(&waiter);
}

static void assert_dies(const char *path, const char *message)
{
    g_test_trap_subprocess(path, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr(message);
}

static void test_resolver(void)
{
    RAMBlock *rb = block_new_mapped("resolver", TARGET_SIZE, 2);
    Access *a;

    assert_dies("/ram-wait/resolver/subprocess/wait",
                "*!thread_is_resolver*");
    assert_dies("/ram-wait/resolver/subprocess/add",
                "*!thread_is_resolver*");
    assert_dies("/ram-wait/resolver/subprocess/unaligned", "*ALIGNED*");

    /* It is the thread that must not, not others, and not forever. */
    enable();
    ram_wait_resolver(true);
    a = access_start(rb, 0, 1);
    take_page(a, 0);
    place(rb, 0);
    access_end(a);
    ram_wait_resolver(false);
    ram_wait_for(rb, 0, 1);
    disable();
    block_free(rb);
}

/* --- More than one migration --- */

/* A request that was not taken in the first one is not in the way. */
static void test_again(void)
{
    RAMBlock *rb = block_new_mapped("again", TARGET_SIZE, 200);
    Waiter waiter;
    Access *a;

    for (int i = 0; i < 200; i++) {
        enable();
        waiter_init(&waiter, rb, i * TARGET_SIZE);
        g_assert_true(waiter_add(&waiter));
        g_assert_cmpuint(notified.nr, ==, 1);
        place(rb, i * TARGET_SIZE);
        waiter_del(&waiter, true);
        /* Nobody looks for requests: the resolver is gone already. */
        ram_wait_disable();
    }
    block_clear(rb);
    enable();
    a = access_start(rb, 0, 1);
    take_page(a, 0);
    place(rb, 0);
    access_end(a);
    disable();
    block_free(rb);
}

typedef struct Toggle {
    QemuThread thread;
    RAMBlock *rb;
    unsigned int seen;
    bool stop;
} Toggle;

static void *toggle_thread(void *opaque)
{
    Toggle *t = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    rcu_register_thread();
    while (!qatomic_read(&t->stop)) {
        ram_wait_for(t->rb, g_rand_int(rand) % t->rb->used_length,
                         1 + g_rand_int(rand) % (3 * TARGET_SIZE));
        qatomic_inc(&t->seen);
    }
    rcu_unregister_thread();
    return NULL;
}

/* An iothread does not stop when the RAM wait is switched on or off. */
static void test_toggle(void)
{
    RAMBlock *rb = block_new_mapped("toggle", TARGET_SIZE, 16);
    Toggle t = { .rb = rb };

    qemu_thread_create(&t.thread, "toggle", toggle_thread, &t,
                       QEMU_THREAD_JOINABLE);
    for (int i = 0; i < rounds(5000); i++) {
        unsigned int before = qatomic_read(&t.seen);

        g_free(rb->receivedmap);
        rb->receivedmap = bitmap_new(16);
        enable();
        place_all(rb);
        while (i % 16 == 0 && qatomic_read(&t.seen) == before) {
            sched_yield();
        }
        ram_wait_disable();
    }
    qatomic_set(&t.stop, true);
    qemu_thread_join(&t.thread);
    block_free(rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* Children begin anew, they need no RCU before. */
    rcu_disable_atfork();
    qemu_event_init(&notified.event, false);

    g_test_add_func("/ram-wait/off", test_off);
    g_test_add_func("/ram-wait/present", test_present);
    g_test_add_func("/ram-wait/one", test_one);
    g_test_add_func("/ram-wait/straddle", test_straddle);
    g_test_add_func("/ram-wait/batch", test_batch);
    g_test_add_func("/ram-wait/beyond", test_beyond);
    g_test_add_data_func("/ram-wait/shared/2", GUINT_TO_POINTER(2),
                         test_shared);
    g_test_add_data_func("/ram-wait/shared/8", GUINT_TO_POINTER(8),
                         test_shared);
    g_test_add_func("/ram-wait/crowd", test_crowd);
    g_test_add_func("/ram-wait/many", test_many);
    g_test_add_func("/ram-wait/notify", test_notify);
    g_test_add_func("/ram-wait/sends", test_sends);
    g_test_add_func("/ram-wait/del/before", test_del_before);
    g_test_add_func("/ram-wait/del/after", test_del_after);
    g_test_add_func("/ram-wait/huge", test_huge);
    g_test_add_func("/ram-wait/stats", test_stats);
    g_test_add_func("/ram-wait/latency", test_latency);
    g_test_add_func("/ram-wait/stuck", test_stuck);
    g_test_add_func("/ram-wait/resolver", test_resolver);
    g_test_add_func("/ram-wait/resolver/subprocess/wait",
                    test_resolver_wait);
    g_test_add_func("/ram-wait/resolver/subprocess/add", test_resolver_add);
    g_test_add_func("/ram-wait/resolver/subprocess/unaligned",
                    test_unaligned);
    g_test_add_func("/ram-wait/again", test_again);
    g_test_add_func("/ram-wait/toggle", test_toggle);
    g_test_add_func("/ram-wait/race/add", test_race_add);
    g_test_add_func("/ram-wait/race/del", test_race_del);
    g_test_add_func("/ram-wait/race/notify", test_race_notify);
    g_test_add_func("/ram-wait/race/exit", test_race_exit);
    g_test_add_func("/ram-wait/stress/small", test_stress);
    g_test_add_func("/ram-wait/stress/huge", test_stress_huge);
    return g_test_run();
}
