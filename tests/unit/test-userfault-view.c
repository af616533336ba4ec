/*
 * Tests of the bitmaps of missing pages
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "exec/ramblock.h"
#include "system/userfault-view.h"
#include "ram-helpers.h"

static RAMBlock *pages_new(size_t npages)
{
    return block_new("ram", TARGET_SIZE, npages);
}

static size_t block_pages(RAMBlock *rb)
{
    return rb->used_length / TARGET_SIZE;
}

typedef struct Drain {
    struct rcu_head rcu;
    bool done;
} Drain;

static void drain_done(Drain *drain)
{
    qatomic_store_release(&drain->done, true);
}

/* As drain_call_rcu(), which TSan does not follow through the futex. */
static void drain_rcu(void)
{
    g_autofree Drain *drain = g_new0(Drain, 1);

    call_rcu(drain, drain_done, rcu);
    while (!qatomic_load_acquire(&drain->done)) {
        g_usleep(1000);
    }
}

/* Here all is in pages. */
static UserfaultView *view_new(RAMBlock *rb, size_t page, size_t npages)
{
    return userfault_view_new(rb, page * TARGET_SIZE, npages * TARGET_SIZE);
}

static void view_free(UserfaultView *view)
{
    if (view) {
        userfault_view_free(view);
    }
}

static void arrive(RAMBlock *rb, size_t page, size_t npages)
{
    bitmap_set_atomic(rb->receivedmap, page, npages);
    userfault_views_clear(rb, page * TARGET_SIZE, npages * TARGET_SIZE);
}

/* Whole words, as KVM could read them: nothing is set behind the end. */
static unsigned long view_word(UserfaultView *view, size_t i)
{
    return qatomic_load_acquire(&view->bitmap[i]);
}

static bool view_bit(UserfaultView *view, size_t page)
{
    return view_word(view, BIT_WORD(page)) & BIT_MASK(page);
}

/* --- The model: bit by bit --- */

static bool missing(RAMBlock *rb, size_t page)
{
    return page < rb->postcopy_length / TARGET_SIZE &&
           !test_bit(page, rb->receivedmap);
}

static bool any_missing(RAMBlock *rb, size_t page, size_t npages)
{
    for (size_t i = page; i < page + npages; i++) {
        if (missing(rb, i)) {
            return true;
        }
    }
    return false;
}

static void assert_view(UserfaultView *view)
{
    size_t first = view->offset / TARGET_SIZE;

    for (size_t i = 0; i < BITS_TO_LONGS(view->npages); i++) {
        unsigned long word = 0;

        for (size_t j = 0; j < BITS_PER_LONG; j++) {
            size_t n = i * BITS_PER_LONG + j;

            if (n < view->npages && missing(view->rb, first + n)) {
                word |= 1UL << j;
            }
        }
        g_assert_cmphex(view_word(view, i), ==, word);
    }
}

static void assert_new_view(UserfaultView *view, RAMBlock *rb, size_t page,
                            size_t npages)
{
    if (!any_missing(rb, page, npages)) {
        g_assert_null(view);
        return;
    }
    g_assert_nonnull(view);
    g_assert_true(view->rb == rb);
    g_assert_cmphex(view->offset, ==, page * TARGET_SIZE);
    g_assert_cmphex(view->npages, ==, npages);
    assert_view(view);
}

/* --- Tests in one thread --- */

static void test_none(void)
{
    RAMBlock *rb = pages_new(200);
    unsigned long *map = rb->receivedmap;

    /* Not migrated. */
    rb->receivedmap = NULL;
    g_assert_null(view_new(rb, 0, 200));
    userfault_views_clear(rb, 0, rb->used_length);
    rb->receivedmap = map;
    rb->postcopy_length = 0;
    g_assert_null(view_new(rb, 0, 200));
    rb->postcopy_length = 100 * TARGET_SIZE;
    g_assert_null(view_new(rb, 100, 100));
    g_assert_null(view_new(rb, 128, 1));

    /* All there. */
    rb->postcopy_length = rb->used_length;
    bitmap_set(rb->receivedmap, 30, 130);
    g_assert_null(view_new(rb, 30, 130));
    g_assert_null(view_new(rb, 64, 64));
    g_assert_null(view_new(rb, 159, 1));
    g_assert_true(QLIST_EMPTY(&rb->userfault_views));
    block_free(rb);
}

/* One page of a view is missing, or all but one are. */
static void test_one(void)
{
    enum { NPAGES = 64 + 130 + 64 };

    for (int page = 0; page < NPAGES; page++) {
        for (int inverted = 0; inverted < 2; inverted++) {
            RAMBlock *rb = pages_new(NPAGES);
            UserfaultView *view;

            bitmap_fill(rb->receivedmap, NPAGES);
            clear_bit(page, rb->receivedmap);
            if (inverted) {
                bitmap_complement(rb->receivedmap, rb->receivedmap, NPAGES);
            }
            view = view_new(rb, 70, 130);
            assert_new_view(view, rb, 70, 130);
            view_free(view);
            block_free(rb);
        }
    }
    drain_rcu();
}

static void random_map(GRand *rand, unsigned long *map, size_t npages)
{
    /* From nearly none to nearly all, in runs or one by one. */
    double density = g_rand_double(rand);
    int run = g_rand_boolean(rand) ? 1 : 100;

    for (size_t i = 0; i < npages;) {
        size_t n = MIN(npages - i, g_rand_int_range(rand, 1, run + 1));

        if (g_rand_double(rand) < density) {
            bitmap_set(map, i, n);
        }
        i += n;
    }
}

static void random_arrivals(GRand *rand, RAMBlock *rb, UserfaultView *view)
{
    for (int i = 0; i < 4; i++) {
        size_t page = g_rand_int_range(rand, 0, block_pages(rb));
        size_t n = g_rand_int_range(rand, 1, block_pages(rb) - page + 1);

        if (g_rand_boolean(rand)) {
            n = 1;
        }
        arrive(rb, page, n);
        assert_view(view);
    }
}

static void check_random(GRand *rand, size_t offset, size_t npages)
{
    RAMBlock *rb = pages_new(offset + npages + g_rand_int_range(rand, 0, 80));
    UserfaultView *view;

    random_map(rand, rb->receivedmap, block_pages(rb));
    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        rb->postcopy_length =
            g_rand_int_range(rand, 0, block_pages(rb) + 1) * TARGET_SIZE;
        break;
    case 1:
        rb->postcopy_length = (offset + npages) * TARGET_SIZE;
        break;
    }
    view = view_new(rb, offset, npages);
    assert_new_view(view, rb, offset, npages);
    if (view) {
        random_arrivals(rand, rb, view);
        userfault_view_free(view);
    }
    block_free(rb);
}

/* Each start and end within a word, with random contents. */
static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (size_t offset = 0; offset < BITS_PER_LONG; offset++) {
        for (size_t tail = 1; tail <= BITS_PER_LONG; tail++) {
            for (int i = 0; i < rounds(40); i++) {
                size_t words = g_rand_int_range(rand, 0, 4);

                check_random(rand, offset + BITS_PER_LONG * (i % 3),
                             tail + words * BITS_PER_LONG);
            }
        }
    }
    drain_rcu();
}

/* Nothing but what has arrived is cleared, wherever it begins and ends. */
static void test_clear(void)
{
    enum { NPAGES = 300, FIRST = 37, COUNT = 150 };

    for (int start = 0; start < NPAGES; start++) {
        for (int n = 1; n <= NPAGES - start; n += 1 + n / 3) {
            RAMBlock *rb = pages_new(NPAGES);
            UserfaultView *view = view_new(rb, FIRST, COUNT);

            arrive(rb, start, n);
            assert_view(view);
            userfault_view_free(view);
            block_free(rb);
        }
    }
    drain_rcu();
}

/* A page is cleared wherever it is seen, and only in its own block. */
static void test_alias(void)
{
    RAMBlock *rb = pages_new(256);
    RAMBlock *other = pages_new(256);
    UserfaultView *other_view = view_new(other, 0, 256);
    UserfaultView *views[] = {
        view_new(rb, 0, 256),
        view_new(rb, 0, 256),
        view_new(rb, 13, 100),
        view_new(rb, 100, 1),
        view_new(rb, 200, 56),
    };

    arrive(rb, 100, 1);
    for (int i = 0; i < ARRAY_SIZE(views); i++) {
        assert_view(views[i]);
    }
    g_assert_false(view_bit(views[0], 100));
    g_assert_false(view_bit(views[1], 100));
    g_assert_false(view_bit(views[2], 100 - 13));
    g_assert_false(view_bit(views[3], 0));

    /* Out of the middle of the list. */
    userfault_view_free(views[2]);
    arrive(rb, 0, 256);
    for (int i = 0; i < ARRAY_SIZE(views); i++) {
        if (i != 2) {
            assert_view(views[i]);
            userfault_view_free(views[i]);
        }
    }
    g_assert_cmpuint(bitmap_count_one(other_view->bitmap, 256), ==, 256);
    userfault_view_free(other_view);
    block_free(rb);
    block_free(other);
    drain_rcu();
}

/* --- Tests in several threads --- */

typedef struct Early {
    QemuThread thread;
    RAMBlock *rb;
    int contents;
} Early;

static void *early_thread(void *opaque)
{
    Early *e = opaque;

    e->contents = 1;
    set_bit_atomic(0, e->rb->receivedmap);
    return NULL;
}

/* A view passes on the contents of a page that came before it. */
static void test_early(void)
{
    for (int i = 0; i < rounds(2000); i++) {
        Early e = { .rb = pages_new(2) };
        UserfaultView *view;

        qemu_thread_create(&e.thread, "early", early_thread, &e,
                           QEMU_THREAD_JOINABLE);
        /* Relaxed: it is the view that must order the two threads. */
        while (!qatomic_read(e.rb->receivedmap)) {
            sched_yield();
        }
        view = view_new(e.rb, 0, 2);
        g_assert_false(view_bit(view, 0));
        g_assert_cmpint(e.contents, ==, 1);
        userfault_view_free(view);
        qemu_thread_join(&e.thread);
        block_free(e.rb);
    }
    drain_rcu();
}

static void race_arrive(Race *race, ram_addr_t offset)
{
    set_bit_atomic(offset >> TARGET_BITS, race->rb->receivedmap);
    userfault_views_clear(race->rb, offset, TARGET_SIZE);
}

/*
 * Pages arrive while views are made of them: either the one sees that the page
 * is there, or the other one sees the view.
 */
static void test_race_new(void)
{
    UserfaultView *views[RACE_PAGES];
    Race race = {
        .rb = pages_new(64),
        .rounds = rounds(200000),
        .pause = 61,
        .other = race_arrive,
    };

    race_begin(&race);
    for (unsigned int i = 0; i < race.rounds; i++) {
        for (int j = 0; j < RACE_PAGES; j++) {
            clear_bit(race_page(&race, i, j) >> TARGET_BITS,
                      race.rb->receivedmap);
        }
        race_start(&race, i);
        for (int j = 0; j < RACE_PAGES; j++) {
            views[j] = userfault_view_new(race.rb, race_page(&race, i, j),
                                          TARGET_SIZE);
        }
        race_finish(&race, i);

        for (int j = 0; j < RACE_PAGES; j++) {
            g_assert_false(views[j] && view_bit(views[j], 0));
            view_free(views[j]);
        }
        if (i % 1000 == 0) {
            drain_rcu();
        }
    }
    race_end(&race);
    block_free(race.rb);
    drain_rcu();
}

typedef struct Stress {
    RAMBlock *rb;
    /* Nonzero when the page has been written. */
    uint32_t *contents;
    /* Pages that somebody brings already. */
    unsigned long *claimed;
    /* That of KVM's slots: protects the list of views, and views of KVM. */
    QemuMutex lock;
    UserfaultView *views[4];
    unsigned int seed;
    bool stop;
} Stress;

static void *stress_place(void *opaque)
{
    Stress *s = opaque;
    size_t npages = block_pages(s->rb), left = npages;
    g_autoptr(GRand) rand =
        g_rand_new_with_seed(qatomic_fetch_inc(&s->seed));

    rcu_register_thread();
    /* At random for a while, then what is left. */
    for (size_t i = 0; i < 2 * npages; i++) {
        size_t page = i < npages ? g_rand_int_range(rand, 0, npages) : --left;
        unsigned long *word = &s->claimed[BIT_WORD(page)];

        if (qatomic_fetch_or(word, BIT_MASK(page)) & BIT_MASK(page)) {
            continue;
        }
        s->contents[page] = page + 1;
        set_bit_atomic(page, s->rb->receivedmap);
        userfault_views_clear(s->rb, page * TARGET_SIZE, TARGET_SIZE);
    }
    rcu_unregister_thread();
    return NULL;
}

/*
 * What KVM sees: a page whose bit is clear is there; a clear bit stays so.
 * Called with the lock held, thus the view stays meanwhile.
 */
static void stress_look(Stress *s, UserfaultView *view)
{
    size_t first = view->offset / TARGET_SIZE;

    for (size_t i = 0; i < BITS_TO_LONGS(view->npages); i++) {
        unsigned long word = view_word(view, i);

        for (size_t j = 0; j < BITS_PER_LONG; j++) {
            size_t n = i * BITS_PER_LONG + j;

            if (n < view->npages && !(word & (1UL << j))) {
                g_assert_cmpuint(s->contents[first + n], ==, first + n + 1);
            }
        }
        g_assert_cmphex(view_word(view, i) & ~word, ==, 0);
    }
}

static void *stress_kvm(void *opaque)
{
    Stress *s = opaque;
    unsigned int n = 0;

    while (!qatomic_read(&s->stop)) {
        WITH_QEMU_LOCK_GUARD(&s->lock) {
            UserfaultView *view = s->views[n++ % ARRAY_SIZE(s->views)];

            if (view) {
                stress_look(s, view);
            }
        }
    }
    return NULL;
}

/* Slots come and go. */
static void *stress_slots(void *opaque)
{
    Stress *s = opaque;
    size_t npages = block_pages(s->rb);
    g_autoptr(GRand) rand =
        g_rand_new_with_seed(qatomic_fetch_inc(&s->seed));

    while (!qatomic_read(&s->stop)) {
        int n = g_rand_int_range(rand, 0, ARRAY_SIZE(s->views));
        size_t page = g_rand_int_range(rand, 0, npages);
        size_t count = g_rand_int_range(rand, 1, npages - page + 1);

        WITH_QEMU_LOCK_GUARD(&s->lock) {
            view_free(s->views[n]);
            s->views[n] = view_new(s->rb, page, count);
        }
    }
    return NULL;
}

/* At the end all is clear, in whatever view. */
static void stress_end(Stress *s)
{
    for (int i = 0; i < ARRAY_SIZE(s->views); i++) {
        UserfaultView *view = s->views[i];

        if (view) {
            g_assert_cmpuint(bitmap_count_one(view->bitmap, view->npages),
                             ==, 0);
            userfault_view_free(view);
        }
    }
    g_assert_null(view_new(s->rb, 0, block_pages(s->rb)));
}

static void test_stress(void)
{
    enum { NPAGES = 3000 };

    for (int i = 0; i < rounds(100); i++) {
        g_autofree uint32_t *contents = g_new0(uint32_t, NPAGES);
        g_autofree unsigned long *claimed = bitmap_new(NPAGES);
        QemuThread place[2], kvm, slots;
        Stress s = {
            .rb = pages_new(NPAGES),
            .contents = contents,
            .claimed = claimed,
            .seed = i * 10,
        };

        qemu_mutex_init(&s.lock);
        qemu_thread_create(&kvm, "kvm", stress_kvm, &s, QEMU_THREAD_JOINABLE);
        qemu_thread_create(&slots, "slots", stress_slots, &s,
                           QEMU_THREAD_JOINABLE);
        for (int j = 0; j < 2; j++) {
            qemu_thread_create(&place[j], "place", stress_place, &s,
                               QEMU_THREAD_JOINABLE);
        }
        for (int j = 0; j < 2; j++) {
            qemu_thread_join(&place[j]);
        }
        qatomic_set(&s.stop, true);
        qemu_thread_join(&kvm);
        qemu_thread_join(&slots);
        stress_end(&s);
        qemu_mutex_destroy(&s.lock);
        drain_rcu();
        block_free(s.rb);
    }
}

typedef struct Clearer {
    QemuThread thread;
    RAMBlock *rb;
    unsigned int rounds;
    bool stop;
} Clearer;

static void *clearer_thread(void *opaque)
{
    Clearer *c = opaque;

    rcu_register_thread();
    while (!qatomic_read(&c->stop)) {
        userfault_views_clear(c->rb, TARGET_SIZE, 70 * TARGET_SIZE);
        qatomic_inc(&c->rounds);
    }
    rcu_unregister_thread();
    return NULL;
}

/* Views go, and their memory with them, while others look for bits to clear. */
static void test_free(void)
{
    Clearer c = { .rb = pages_new(200) };
    UserfaultView *views[8] = { };

    qemu_thread_create(&c.thread, "clear", clearer_thread, &c,
                       QEMU_THREAD_JOINABLE);
    for (int i = 0; i < rounds(200000); i++) {
        int n = i * 5 % ARRAY_SIZE(views);

        view_free(views[n]);
        views[n] = view_new(c.rb, n, 100);
        g_assert_nonnull(views[n]);
        if (i % 1000 == 0) {
            drain_rcu();
        }
    }
    for (int i = 0; i < ARRAY_SIZE(views); i++) {
        view_free(views[i]);
    }
    qatomic_set(&c.stop, true);
    qemu_thread_join(&c.thread);
    drain_rcu();
    block_free(c.rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/userfault-view/none", test_none);
    g_test_add_func("/userfault-view/one", test_one);
    g_test_add_func("/userfault-view/random", test_random);
    g_test_add_func("/userfault-view/clear", test_clear);
    g_test_add_func("/userfault-view/alias", test_alias);
    g_test_add_func("/userfault-view/early", test_early);
    g_test_add_func("/userfault-view/race/new", test_race_new);
    g_test_add_func("/userfault-view/stress", test_stress);
    g_test_add_func("/userfault-view/free", test_free);
    return g_test_run();
}
