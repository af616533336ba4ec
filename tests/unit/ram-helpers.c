/*
 * Unit tests of guest RAM: blocks of it, and races for their pages
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "exec/page-vary.h"
#include "exec/ramblock.h"
#include "ram-helpers.h"

/* What page-vary has in a whole QEMU. */
const TargetPageBits target_page = {
    .decided = true,
    .bits = TARGET_BITS,
    .mask = -TARGET_SIZE,
};

unsigned int rounds(unsigned int n)
{
#if defined(QEMU_SANITIZE_THREAD) || defined(QEMU_SANITIZE_ADDRESS)
    n /= 10;
#endif
    return g_test_slow() ? 10 * n : n;
}

/* --- Blocks --- */

RAMBlock *block_new(const char *name, size_t page_size, size_t npages)
{
    size_t size = npages * page_size;
    RAMBlock *rb = g_new0(RAMBlock, 1);

    g_strlcpy(rb->idstr, name, sizeof(rb->idstr));
    rb->page_size = page_size;
    rb->used_length = rb->max_length = rb->postcopy_length = size;
    rb->receivedmap = bitmap_new(size >> TARGET_BITS);
    return rb;
}

RAMBlock *block_new_mapped(const char *name, size_t page_size, size_t npages)
{
    RAMBlock *rb = block_new(name, page_size, npages);

    rb->host = qemu_memalign(page_size, rb->max_length);
    memset(rb->host, 0, rb->max_length);
    return rb;
}

void block_free(RAMBlock *rb)
{
    g_assert_true(QLIST_EMPTY(&rb->userfault_views));
    g_free(rb->receivedmap);
    qemu_vfree(rb->host);
    g_free(rb);
}

/* --- Races --- */

/* The n-th meeting, from 1 on. */
static void race_meet(Race *race, unsigned int n)
{
    qatomic_inc(&race->arrived);
    for (int i = 0; qatomic_load_acquire(&race->arrived) < 2 * n; i++) {
        if (i > 100) {
            sched_yield();
        }
    }
}

static void race_skew(unsigned int loops)
{
    while (loops--) {
        barrier();
    }
}

static void race_meet_start(Race *race, unsigned int round)
{
    race_meet(race, 2 * round + 1);
}

void race_start(Race *race, unsigned int round)
{
    race_meet_start(race, round);
    race_skew(round % 97);
}

void race_finish(Race *race, unsigned int round)
{
    /* The other thread looks at it when they have met. */
    if (round % 256 == 0 && !g_test_slow() &&
        g_get_monotonic_time() > race->deadline) {
        race->rounds = round + 1;
    }
    race_meet(race, 2 * round + 2);
}

ram_addr_t race_page(Race *race, unsigned int round, unsigned int i)
{
    size_t npages = race->rb->used_length / race->rb->page_size;

    return (round * RACE_PAGES + i) % npages * race->rb->page_size;
}

static void *race_thread(void *opaque)
{
    Race *race = opaque;

    rcu_register_thread();
    for (unsigned int i = 0; i < race->rounds; i++) {
        race_meet_start(race, i);
        race_skew(i % 331);
        for (int j = 0; j < RACE_PAGES; j++) {
            race->other(race, race_page(race, i, j));
            race_skew(i % race->pause);
        }
        race_finish(race, i);
    }
    rcu_unregister_thread();
    return NULL;
}

void race_begin(Race *race)
{
    race->deadline = g_get_monotonic_time() + RACE_SECONDS * G_USEC_PER_SEC;
    qemu_thread_create(&race->thread, "race", race_thread, race,
                       QEMU_THREAD_JOINABLE);
}

void race_end(Race *race)
{
    qemu_thread_join(&race->thread);
}
