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
#include "../../migration/savevm.h"

#define HUGE_SIZE (2 * MiB)

/* --- A migration --- */

static MigrationState outgoing;
static MigrationIncomingState incoming;
static bool preempt, release_ram;
/* The last PING that the source has sent, and how many it has. */
static uint32_t ping;
static unsigned int pings;

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

bool migrate_postcopy_ram(void)
{
    return true;
}

bool migrate_release_ram(void)
{
    return release_ram;
}

void qemu_savevm_send_ping(QEMUFile *f, uint32_t value)
{
    ping = value;
    pings++;
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
 * What it sends, of a block that is all dirty: for each page of the request
 * that is still dirty, that one and what follows in its huge page.
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
    size_t len = postcopy_piece_request(rb, &start, 0);
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
        g_assert_cmphex(postcopy_piece_request(rb, &start, 0), ==, HUGE_SIZE);
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

/* --- Both sides know of it --- */

static void start(const PostcopyFaultOps *ops)
{
    incoming.postcopy_fault = ops;
    outgoing.postcopy_pieces = true;
    release_ram = false;
    pings = 0;
    postcopy_pieces_reset();
    postcopy_pieces_ask(&outgoing);
}

/* The destination gets the last PING, and the source what it answers. */
static void deliver_ping(void)
{
    postcopy_pieces_pong(postcopy_pieces_ping(&incoming, ping));
}

static void check_agreed(bool agreed)
{
    RAMBlock *rb = block_new("huge", HUGE_SIZE, 2);
    ram_addr_t start = HUGE_SIZE + TARGET_SIZE, page = 0;
    RAMBlock *next = NULL;

    preempt = true;
    g_assert_true(postcopy_pieces_agreed() == agreed);
    g_assert_cmphex(postcopy_pieces_unit(rb), ==,
                    agreed ? TARGET_SIZE : HUGE_SIZE);
    if (agreed) {
        g_assert_cmphex(postcopy_piece_request(rb, &start, 0), ==, TARGET_SIZE);
        g_assert_cmphex(postcopy_piece_request(rb, &start, 5 * TARGET_SIZE), ==,
                        6 * TARGET_SIZE);
        g_assert_cmphex(start, ==, HUGE_SIZE + TARGET_SIZE);
    } else {
        /* What any source takes. */
        g_assert_cmphex(postcopy_piece_request(rb, &start, 5 * TARGET_SIZE), ==,
                        HUGE_SIZE);
    }
    postcopy_pieces_sent(rb, 7);
    postcopy_pieces_next(&next, &page);
    g_assert_true(next == (agreed ? rb : NULL));
    g_assert_cmpuint(page, ==, agreed ? 7 : 0);
    block_free(rb);
}

static void test_agreed(void)
{
    start(&in_pieces);
    g_assert_cmpuint(pings, ==, 1);
    check_agreed(false);
    deliver_ping();
    check_agreed(false);
    postcopy_pieces_switch(&outgoing);
    g_assert_cmpuint(pings, ==, 2);
    deliver_ping();
    check_agreed(true);

    /* Another migration begins anew. */
    start(&in_pieces);
    check_agreed(false);
}

/* A destination that does not know of it, or can't, answers as ever. */
static void test_destination_does_not(void)
{
    start(&whole_pages);
    g_assert_cmphex(postcopy_pieces_ping(&incoming, ping), ==, ping);
    deliver_ping();
    postcopy_pieces_switch(&outgoing);
    g_assert_cmpuint(pings, ==, 1);
    incoming.postcopy_fault = &in_pieces;
    check_agreed(false);
}

/* The guest was stopped before the answer came: as if there were none. */
static void test_late_answer(void)
{
    start(&in_pieces);
    postcopy_pieces_switch(&outgoing);
    g_assert_cmpuint(pings, ==, 1);
    deliver_ping();
    check_agreed(false);
}

static void test_source_does_not(void)
{
    start(&in_pieces);
    pings = 0;
    outgoing.postcopy_pieces = false;
    postcopy_pieces_ask(&outgoing);
    outgoing.postcopy_pieces = true;
    release_ram = true;
    postcopy_pieces_ask(&outgoing);
    g_assert_cmpuint(pings, ==, 0);
    postcopy_pieces_switch(&outgoing);
    g_assert_cmpuint(pings, ==, 0);
    check_agreed(false);
}

/* Other PINGs and PONGs are not this file's. */
static void test_others(void)
{
    start(&in_pieces);
    for (uint32_t value = 0; value < 5; value++) {
        g_assert_cmphex(postcopy_pieces_ping(&incoming, value), ==, value);
        postcopy_pieces_pong(value);
    }
    postcopy_pieces_switch(&outgoing);
    check_agreed(false);
}

/* The background follows once, and only into a huge page. */
static void test_background(void)
{
    RAMBlock *huge = block_new("huge", HUGE_SIZE, 2);
    RAMBlock *small = block_new("small", TARGET_SIZE, 2);
    RAMBlock *rb = NULL;
    ram_addr_t page = 99;

    start(&in_pieces);
    deliver_ping();
    postcopy_pieces_switch(&outgoing);
    postcopy_pieces_sent(small, 1);
    postcopy_pieces_sent(huge, HUGE_SIZE / TARGET_SIZE);
    postcopy_pieces_next(&rb, &page);
    g_assert_null(rb);
    g_assert_cmpuint(page, ==, 99);

    postcopy_pieces_sent(huge, 3);
    postcopy_pieces_sent(huge, 5);
    postcopy_pieces_next(&rb, &page);
    g_assert_true(rb == huge);
    g_assert_cmpuint(page, ==, 5);
    rb = NULL;
    postcopy_pieces_next(&rb, &page);
    g_assert_null(rb);
    block_free(huge);
    block_free(small);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-pieces/size", test_size);
    g_test_add_func("/postcopy-pieces/request/plain", test_request);
    g_test_add_func("/postcopy-pieces/request/preempt", test_request_preempt);
    g_test_add_func("/postcopy-pieces/request/whole", test_whole);
    g_test_add_func("/postcopy-pieces/agreed", test_agreed);
    g_test_add_func("/postcopy-pieces/agreed/not/destination",
                    test_destination_does_not);
    g_test_add_func("/postcopy-pieces/agreed/not/late", test_late_answer);
    g_test_add_func("/postcopy-pieces/agreed/not/source",
                    test_source_does_not);
    g_test_add_func("/postcopy-pieces/others", test_others);
    g_test_add_func("/postcopy-pieces/background", test_background);
    return g_test_run();
}
