/*
 * Gates: waiting for a set of pages without blocking a thread
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "exec/ramblock.h"
#include "migration/postcopy-gate.h"
#include "system/ram-wait.h"
#include "ram-helpers.h"

#define NR_PAGES 256

/* --- A block whose pages are missing --- */

static RAMBlock *block;
static unsigned int opened;

static void notify(void *opaque)
{
}

static void setup(void)
{
    block = block_new("block", TARGET_SIZE, NR_PAGES);
    qatomic_set(&opened, 0);
    ram_wait_enable(&(RAMWaitResolver) { .notify = notify });
}

static void place(unsigned int page)
{
    if (!test_bit(page, block->receivedmap)) {
        set_bit_atomic(page, block->receivedmap);
        ram_wait_page_present(block, page * TARGET_SIZE);
    }
}

static void teardown(void)
{
    for (unsigned int i = 0; i < NR_PAGES; i++) {
        place(i);
    }
    ram_wait_disable();
    block_free(block);
}

/* Takes all requests: how many, and a bit for each page of the first 64. */
static unsigned int take_requests(uint64_t *pages)
{
    RAMWaitRequest req;
    unsigned int n = 0;

    *pages = 0;
    for (; ram_wait_next_request(&req); n++) {
        if (req.offset < 64 * TARGET_SIZE) {
            *pages |= 1ULL << (req.offset / TARGET_SIZE);
        }
    }
    return n;
}

static void count_opened(void *opaque)
{
    g_assert_true(opaque == &opened);
    qatomic_inc(&opened);
}

/* --- Tests --- */

static void test_together(void)
{
    PostcopyGate *gate = postcopy_gate_new();
    uint64_t pages;

    setup();
    g_assert_true(postcopy_gate_is_open(gate));
    place(2);
    postcopy_gate_add_range(gate, block, TARGET_SIZE + 1, 4 * TARGET_SIZE);
    g_assert_cmpuint(postcopy_gate_pages(gate), ==, 4);
    g_assert_true(postcopy_gate_close(gate, count_opened, &opened));
    g_assert_false(postcopy_gate_is_open(gate));
    /* Pages 1, 3, 4 and 5: all at once, before any of them has come */
    g_assert_cmpuint(take_requests(&pages), ==, 4);
    g_assert_cmphex(pages, ==, 0x3a);
    for (int i = 5; i > 1; i--) {
        place(i);
        g_assert_false(postcopy_gate_is_open(gate));
        g_assert_cmpuint(opened, ==, 0);
    }
    place(1);
    g_assert_true(postcopy_gate_is_open(gate));
    g_assert_cmpuint(opened, ==, 1);
    postcopy_gate_free(gate);
    teardown();
}

static void test_nothing_missing(void)
{
    PostcopyGate *gate = postcopy_gate_new();

    setup();
    place(7);
    postcopy_gate_add(gate, block, 7 * TARGET_SIZE);
    g_assert_false(postcopy_gate_close(gate, count_opened, &opened));
    g_assert_true(postcopy_gate_is_open(gate));
    g_assert_cmpuint(opened, ==, 0);
    postcopy_gate_reset(gate);
    postcopy_gate_free(gate);
    teardown();
}

/* What is needed soon is requested, and nobody waits for it. */
static void test_soon(void)
{
    PostcopyGate *gate = postcopy_gate_new();
    uint64_t pages;

    setup();
    postcopy_gate_add(gate, block, 0);
    postcopy_gate_soon(gate);
    postcopy_gate_add(gate, block, TARGET_SIZE);
    g_assert_true(postcopy_gate_close(gate, count_opened, &opened));
    g_assert_cmpuint(take_requests(&pages), ==, 2);
    g_assert_cmphex(pages, ==, 3);
    place(0);
    g_assert_true(postcopy_gate_is_open(gate));
    g_assert_cmpuint(opened, ==, 1);
    /* Page 1 is still waited for: take that back, or lose it */
    postcopy_gate_reset(gate);
    postcopy_gate_free(gate);
    place(1);
    g_assert_cmpuint(opened, ==, 1);
    teardown();
}

/* After a reset nobody is called, and the gate is as new. */
static void test_reset(void)
{
    PostcopyGate *gate = postcopy_gate_new();
    uint64_t pages;

    setup();
    for (unsigned int i = 0; i < 3; i++) {
        postcopy_gate_add_range(gate, block, 0, 10 * TARGET_SIZE);
        g_assert_true(postcopy_gate_close(gate, count_opened, &opened));
        postcopy_gate_reset(gate);
        g_assert_true(postcopy_gate_is_open(gate));
        g_assert_cmpuint(postcopy_gate_pages(gate), ==, 0);
    }
    g_assert_cmpuint(take_requests(&pages), ==, 0);
    for (unsigned int i = 0; i < 10; i++) {
        place(i);
    }
    g_assert_cmpuint(opened, ==, 0);

    postcopy_gate_add(gate, block, 10 * TARGET_SIZE);
    g_assert_true(postcopy_gate_close(gate, count_opened, &opened));
    place(10);
    g_assert_cmpuint(opened, ==, 1);
    postcopy_gate_free(gate);
    teardown();
}

/* A gate can be reset after its block has gone: its pages have come. */
static void test_block_gone(void)
{
    PostcopyGate *gate = postcopy_gate_new();
    RAMBlock *gone = g_new0(RAMBlock, 1);

    setup();
    *gone = *block;
    postcopy_gate_add(gate, gone, TARGET_SIZE);
    g_assert_true(postcopy_gate_close(gate, count_opened, &opened));
    set_bit_atomic(1, block->receivedmap);
    ram_wait_page_present(gone, TARGET_SIZE);
    g_assert_cmpuint(opened, ==, 1);
    g_free(gone);
    postcopy_gate_reset(gate);
    postcopy_gate_free(gate);
    teardown();
}

static void *place_all(void *opaque)
{
    rcu_register_thread();
    for (unsigned int i = 0; i < NR_PAGES; i++) {
        place(i);
        if (i % 8 == 0) {
            g_usleep(1);
        }
    }
    rcu_unregister_thread();
    return NULL;
}

/*
 * A gate is reset and used again while its pages come, as a virtqueue does it
 * that somebody looks at without a reason.
 */
static void test_race(void)
{
    for (unsigned int round = 0; round < 200; round++) {
        PostcopyGate *gate = postcopy_gate_new();
        unsigned int closed = 0;
        QemuThread thread;

        setup();
        qemu_thread_create(&thread, "place", place_all, NULL,
                           QEMU_THREAD_JOINABLE);
        for (unsigned int page = 0; page < NR_PAGES - 4; page++) {
            postcopy_gate_reset(gate);
            postcopy_gate_add_range(gate, block, page * TARGET_SIZE,
                                    4 * TARGET_SIZE);
            if (!postcopy_gate_pages(gate)) {
                continue;
            }
            closed += postcopy_gate_close(gate, count_opened, &opened);
        }
        qemu_thread_join(&thread);
        g_assert_true(postcopy_gate_is_open(gate));
        g_assert_cmpuint(qatomic_read(&opened), <=, closed);
        postcopy_gate_reset(gate);
        postcopy_gate_free(gate);
        teardown();
    }
}

static void *place_later(void *opaque)
{
    rcu_register_thread();
    g_usleep(10000);
    place(GPOINTER_TO_UINT(opaque));
    rcu_unregister_thread();
    return NULL;
}

static void test_wait_thread(void)
{
    PostcopyGate *gate = postcopy_gate_new();
    QemuThread thread;

    setup();
    postcopy_gate_add(gate, block, 9 * TARGET_SIZE);
    qemu_thread_create(&thread, "place", place_later, GUINT_TO_POINTER(9),
                       QEMU_THREAD_JOINABLE);
    postcopy_gate_wait(gate);
    g_assert_true(test_bit(9, block->receivedmap));
    postcopy_gate_free(gate);
    qemu_thread_join(&thread);
    teardown();
}

#ifndef QEMU_SANITIZE_THREAD
static bool co_done;

static void coroutine_fn wait_co(void *opaque)
{
    PostcopyGate *gate = postcopy_gate_new();

    postcopy_gate_add(gate, block, 3 * TARGET_SIZE);
    postcopy_gate_wait(gate);
    postcopy_gate_free(gate);
    co_done = true;
}

/* The thread goes on with something else. */
static void test_wait_coroutine(void)
{
    setup();
    co_done = false;
    qemu_coroutine_enter(qemu_coroutine_create(wait_co, NULL));
    g_assert_false(co_done);
    place(3);
    while (!co_done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    teardown();
}
#endif

static void test_count(void)
{
    postcopy_gate_reset_count();
    postcopy_gate_count_put_off();
    postcopy_gate_count_put_off();
    g_assert_cmpuint(postcopy_gate_put_off(), ==, 2);
    postcopy_gate_reset_count();
    g_assert_cmpuint(postcopy_gate_put_off(), ==, 0);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-gate/together", test_together);
    g_test_add_func("/postcopy-gate/nothing-missing", test_nothing_missing);
    g_test_add_func("/postcopy-gate/soon", test_soon);
    g_test_add_func("/postcopy-gate/reset", test_reset);
    g_test_add_func("/postcopy-gate/block-gone", test_block_gone);
    g_test_add_func("/postcopy-gate/race", test_race);
    g_test_add_func("/postcopy-gate/wait-thread", test_wait_thread);
#ifndef QEMU_SANITIZE_THREAD
    /* It does not know of stacks that are switched. */
    g_test_add_func("/postcopy-gate/wait-coroutine", test_wait_coroutine);
#endif
    g_test_add_func("/postcopy-gate/count", test_count);
    return g_test_run();
}
