/*
 * Tests of huge pages that postcopy brings piece by piece
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "exec/ramblock.h"
#include "ram-helpers.h"
#include "../../migration/migration.h"
#include "../../migration/options.h"
#include "../../migration/postcopy-fault.h"
#include "../../migration/postcopy-pieces.h"

#define HUGE_SIZE (2 * MiB)

/* --- A migration --- */

static MigrationIncomingState incoming;
static bool preempt;

MigrationIncomingState *migration_incoming_get_current(void)
{
    return &incoming;
}

const PostcopyFaultOps *postcopy_fault_ops(MigrationIncomingState *mis)
{
    g_assert_true(mis == &incoming);
    return mis->postcopy_fault;
}

bool migrate_postcopy_preempt(void)
{
    return preempt;
}

static const PostcopyFaultOps whole_pages;
static const PostcopyFaultOps in_pieces = { .pieces = true };

/* --- What a source of QEMU 10.0 makes of a request --- */

/* As in ram_save_queue_pages(): what does not pass ends the migration. */
static void check_accepted(RAMBlock *rb, ram_addr_t start, size_t len)
{
    g_assert_true(QEMU_IS_ALIGNED(start, TARGET_SIZE));
    g_assert_true(QEMU_IS_ALIGNED(len, TARGET_SIZE));
    g_assert_cmpuint(start + len, <=, rb->used_length);
    if (preempt) {
        g_assert_cmpuint(len % rb->page_size, ==, 0);
    }
}

/*
 * What it sends, of a block that is all dirty: for each page of the request that
 * is still dirty, that one and what follows in its huge page.
 */
static void get_sent(RAMBlock *rb, ram_addr_t start, size_t len,
                     ram_addr_t *first, ram_addr_t *end)
{
    *first = start;
    *end = ROUND_DOWN(start, rb->page_size) + rb->page_size;
    if (preempt) {
        g_assert_cmpuint(len, ==, rb->page_size);
    } else if (start + len > *end) {
        *end = ROUND_UP(start + len, rb->page_size);
    }
}

static void check_request(RAMBlock *rb, ram_addr_t page)
{
    ram_addr_t start = page, first, end;
    size_t len = postcopy_piece_request(rb, &start);
    bool last = page >= rb->used_length - rb->page_size;

    check_accepted(rb, start, len);
    get_sent(rb, start, len, &first, &end);
    if (preempt && last) {
        g_assert_cmphex(first, ==, rb->used_length - rb->page_size);
    } else {
        g_assert_cmphex(first, ==, page);
    }
    /* And nothing of another huge page. */
    g_assert_cmphex(end, ==,
                    ROUND_DOWN(page, rb->page_size) + rb->page_size);
}

static void check_requests(void)
{
    RAMBlock *huge = block_new("huge", HUGE_SIZE, 3);
    RAMBlock *small = block_new("small", TARGET_SIZE, 3);

    for (ram_addr_t i = 0; i < huge->used_length; i += TARGET_SIZE) {
        check_request(huge, i);
    }
    for (ram_addr_t i = 0; i < small->used_length; i += TARGET_SIZE) {
        check_request(small, i);
    }
    block_free(huge);
    block_free(small);
}

static void test_request(void)
{
    incoming.postcopy_fault = &in_pieces;
    preempt = false;
    check_requests();
}

static void test_request_preempt(void)
{
    incoming.postcopy_fault = &in_pieces;
    preempt = true;
    check_requests();
}

/* A backend that makes whole pages available asks for them. */
static void test_whole(void)
{
    RAMBlock *rb = block_new("huge", HUGE_SIZE, 3);

    incoming.postcopy_fault = &whole_pages;
    for (int i = 0; i < 2; i++) {
        ram_addr_t start = HUGE_SIZE;

        preempt = i;
        g_assert_cmphex(postcopy_piece_size(rb), ==, HUGE_SIZE);
        g_assert_cmphex(postcopy_piece_request(rb, &start), ==, HUGE_SIZE);
        g_assert_cmphex(start, ==, HUGE_SIZE);
    }
    block_free(rb);
}

static void test_size(void)
{
    RAMBlock *rb = block_new("huge", HUGE_SIZE, 1);

    incoming.postcopy_fault = &in_pieces;
    g_assert_cmphex(postcopy_piece_size(rb), ==, TARGET_SIZE);
    /* Not in postcopy, as for COLO. */
    incoming.postcopy_fault = NULL;
    g_assert_cmphex(postcopy_piece_size(rb), ==, HUGE_SIZE);
    block_free(rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-pieces/size", test_size);
    g_test_add_func("/postcopy-pieces/request/plain", test_request);
    g_test_add_func("/postcopy-pieces/request/preempt", test_request_preempt);
    g_test_add_func("/postcopy-pieces/request/whole", test_whole);
    return g_test_run();
}
