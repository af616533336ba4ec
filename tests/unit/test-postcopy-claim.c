/*
 * Claims of pages that postcopy brings
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "exec/ramblock.h"
#include "migration/postcopy-claim.h"
#include "ram-helpers.h"

#define HUGE_SIZE (64 * KiB)

/* Time for a thread to do what it should not do. */
#define SHORT_US 50000

/* --- A block --- */

static RAMBlock *setup(size_t page_size, size_t npages)
{
    RAMBlock *rb = block_new_mapped("block", page_size, npages);

    postcopy_claims_init(rb);
    return rb;
}

static void teardown(RAMBlock *rb)
{
    postcopy_claims_free(rb);
    g_assert_null(rb->postcopy_claims);
    block_free(rb);
}

static void set_received(RAMBlock *rb, ram_addr_t offset)
{
    set_bit_atomic(offset >> TARGET_BITS, rb->receivedmap);
}

/* Written and read plainly: ThreadSanitizer sees whether that is ordered. */
static uint64_t *page_stamp(RAMBlock *rb, ram_addr_t offset)
{
    return (uint64_t *)(rb->host + offset + TARGET_SIZE) - 1;
}

/* --- Threads that bring pages --- */

typedef struct Placer {
    QemuThread thread;
    RAMBlock *rb;
    uint64_t stamp;
    /* Every so many of its claims end in an error. */
    unsigned int fail_each;
    unsigned int nr_claims;
    /* Of test_waits(): where it is. */
    bool started;
    bool done;
} Placer;

/* As the backend does. */
static bool place(Placer *p, ram_addr_t offset)
{
    if (!postcopy_claim(p->rb, offset)) {
        return true;
    }
    p->nr_claims++;
    if (p->fail_each && p->nr_claims % p->fail_each == 0) {
        postcopy_claim_drop(p->rb, offset);
        return false;
    }
    /* Nobody else may have written it. */
    g_assert_cmpint(*page_stamp(p->rb, offset), ==, 0);
    *page_stamp(p->rb, offset) = p->stamp;
    set_received(p->rb, offset);
    postcopy_claim_done(p->rb, offset);
    return true;
}

static void *placer_all(void *opaque)
{
    Placer *p = opaque;

    for (ram_addr_t i = 0; i < p->rb->used_length; i += TARGET_SIZE) {
        while (!place(p, i)) {
            continue;
        }
        /* Whoever wrote it: it is there. */
        g_assert_cmpint(*page_stamp(p->rb, i), !=, 0);
    }
    return NULL;
}

static void run_race(size_t page_size, size_t npages, unsigned int fail_each)
{
    for (unsigned int r = rounds(200); r; r--) {
        RAMBlock *rb = setup(page_size, npages);
        Placer placers[2] = {
            { .rb = rb, .stamp = 1, .fail_each = fail_each },
            { .rb = rb, .stamp = 2 },
        };
        size_t written = 0;

        for (int i = 0; i < 2; i++) {
            qemu_thread_create(&placers[i].thread, "placer", placer_all,
                               &placers[i], QEMU_THREAD_JOINABLE);
        }
        for (int i = 0; i < 2; i++) {
            qemu_thread_join(&placers[i].thread);
            written += placers[i].nr_claims;
            if (placers[i].fail_each) {
                written -= placers[i].nr_claims / placers[i].fail_each;
            }
        }
        g_assert_cmpint(written, ==, rb->used_length / TARGET_SIZE);
        teardown(rb);
    }
}

static void test_race(void)
{
    run_race(TARGET_SIZE, 256, 0);
}

static void test_race_huge(void)
{
    run_race(HUGE_SIZE, 32, 0);
}

static void test_race_errors(void)
{
    run_race(TARGET_SIZE, 256, 3);
}

/* --- One thread after the other --- */

/* A page that is being written keeps no other one from being written. */
static void test_others(void)
{
    RAMBlock *rb = setup(TARGET_SIZE, 4);

    g_assert_true(postcopy_claim(rb, 0));
    g_assert_true(postcopy_claim(rb, TARGET_SIZE));
    set_received(rb, TARGET_SIZE);
    postcopy_claim_done(rb, TARGET_SIZE);
    g_assert_false(postcopy_claim(rb, TARGET_SIZE));
    g_assert_true(postcopy_claim(rb, 2 * TARGET_SIZE));
    teardown(rb);
}

/* What came in precopy is not written again. */
static void test_precopy(void)
{
    RAMBlock *rb = setup(TARGET_SIZE, 2);

    set_received(rb, 0);
    g_assert_true(postcopy_claim_taken(rb, 0));
    g_assert_false(postcopy_claim(rb, 0));
    g_assert_false(postcopy_claim_taken(rb, TARGET_SIZE));
    g_assert_true(postcopy_claim(rb, TARGET_SIZE));
    teardown(rb);
}

/* Each piece of a huge page is claimed by itself. */
static void test_taken(void)
{
    RAMBlock *rb = setup(HUGE_SIZE, 2);

    g_assert_false(postcopy_claim_taken(rb, 0));
    g_assert_true(postcopy_claim(rb, 0));
    g_assert_true(postcopy_claim_taken(rb, 0));
    for (ram_addr_t i = TARGET_SIZE; i < 2 * HUGE_SIZE; i += TARGET_SIZE) {
        g_assert_false(postcopy_claim_taken(rb, i));
        g_assert_true(postcopy_claim(rb, i));
    }
    postcopy_claim_drop(rb, 0);
    g_assert_false(postcopy_claim_taken(rb, 0));
    g_assert_true(postcopy_claim(rb, 0));
    teardown(rb);
}

/* Another migration finds no claim. */
static void test_again(void)
{
    RAMBlock *rb = setup(TARGET_SIZE, 1);

    g_assert_true(postcopy_claim(rb, 0));
    postcopy_claims_init(rb);
    g_assert_false(postcopy_claim_taken(rb, 0));
    teardown(rb);
}

/* --- The second thread waits for the first --- */

static void *placer_first_page(void *opaque)
{
    Placer *p = opaque;

    qatomic_set(&p->started, true);
    while (!place(p, 0)) {
        continue;
    }
    qatomic_store_release(&p->done, true);
    return NULL;
}

/* Another thread brings the page that this one has claimed. */
static void start_second(Placer *p)
{
    qemu_thread_create(&p->thread, "second", placer_first_page, p,
                       QEMU_THREAD_JOINABLE);
    while (!qatomic_read(&p->started)) {
        g_usleep(100);
    }
    g_usleep(SHORT_US);
    g_assert_false(qatomic_load_acquire(&p->done));
}

static void test_waits(void)
{
    RAMBlock *rb = setup(TARGET_SIZE, 2);
    Placer second = { .rb = rb, .stamp = 2 };

    g_assert_true(postcopy_claim(rb, 0));
    start_second(&second);

    /* Another page does not wake it for good. */
    g_assert_true(postcopy_claim(rb, TARGET_SIZE));
    set_received(rb, TARGET_SIZE);
    postcopy_claim_done(rb, TARGET_SIZE);
    g_usleep(SHORT_US);
    g_assert_false(qatomic_load_acquire(&second.done));

    *page_stamp(rb, 0) = 1;
    set_received(rb, 0);
    postcopy_claim_done(rb, 0);
    qemu_thread_join(&second.thread);
    g_assert_cmpint(second.nr_claims, ==, 0);
    g_assert_cmpint(*page_stamp(rb, 0), ==, 1);
    teardown(rb);
}

static void test_waits_error(void)
{
    RAMBlock *rb = setup(TARGET_SIZE, 1);
    Placer second = { .rb = rb, .stamp = 2 };

    g_assert_true(postcopy_claim(rb, 0));
    start_second(&second);
    postcopy_claim_drop(rb, 0);
    qemu_thread_join(&second.thread);
    g_assert_cmpint(second.nr_claims, ==, 1);
    g_assert_cmpint(*page_stamp(rb, 0), ==, 2);
    teardown(rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-claim/others", test_others);
    g_test_add_func("/postcopy-claim/precopy", test_precopy);
    g_test_add_func("/postcopy-claim/taken", test_taken);
    g_test_add_func("/postcopy-claim/again", test_again);
    g_test_add_func("/postcopy-claim/waits", test_waits);
    g_test_add_func("/postcopy-claim/waits/error", test_waits_error);
    g_test_add_func("/postcopy-claim/race", test_race);
    g_test_add_func("/postcopy-claim/race/huge", test_race_huge);
    g_test_add_func("/postcopy-claim/race/errors", test_race_errors);
    return g_test_run();
}
