/*
 * Tests of requests for pages by those who wait for them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "exec/ramblock.h"
#include "io/channel-socket.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/lockable.h"
#include "qemu/module.h"
#include "ram-helpers.h"
#include "../../migration/migration.h"
#include "../../migration/postcopy-around.h"
#include "../../migration/postcopy-request.h"
#include "../../migration/qemu-file.h"
#include "../../migration/ram.h"

/* --- A migration --- */

static MigrationIncomingState incoming;
static RAMBlock *rb;
/* The source's end of the return path. */
static int source;
/* The migration's end has come. */
static bool over;

bool ramblock_recv_bitmap_test_byte_offset(RAMBlock *block,
                                           uint64_t byte_offset)
{
    return test_bit(byte_offset >> TARGET_BITS, block->receivedmap);
}

/* What is wanted behind a page depends on the page here. */
size_t postcopy_around_next(RAMBlock *block, ram_addr_t start)
{
    g_assert_true(block == rb);
    return start / 2;
}

/* A request is the page's offset here. */
int migrate_send_rp_req_pages_locked(MigrationIncomingState *mis,
                                     RAMBlock *block, ram_addr_t start,
                                     size_t around)
{
    g_assert_true(block == rb);
    g_assert_cmphex(around, ==, start / 2);
    /* Whoever reads the stream can go on. */
    g_assert_false(qemu_mutex_trylock(&mis->page_request_mutex));
    qemu_mutex_unlock(&mis->page_request_mutex);
    qemu_put_be64(mis->to_src_file, start);
    return qemu_fflush(mis->to_src_file);
}

static gint compare(gconstpointer a, gconstpointer b)
{
    return (a > b) - (a < b);
}

static void setup(void)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    source = fds[0];
    incoming = (MigrationIncomingState) {
        .state = MIGRATION_STATUS_POSTCOPY_ACTIVE,
        .page_requested = g_tree_new(compare),
        .to_src_file = qemu_file_new_output(
            QIO_CHANNEL(qio_channel_socket_new_fd(fds[1], &error_abort))),
    };
    qemu_mutex_init(&incoming.rp_mutex);
    qemu_mutex_init(&incoming.page_request_mutex);
    rb = block_new_mapped("request", TARGET_SIZE, 8);
    postcopy_request_open(&incoming);
}

static void teardown(void)
{
    if (incoming.to_src_file) {
        qemu_fclose(incoming.to_src_file);
    }
    if (source >= 0) {
        close(source);
    }
    g_tree_destroy(incoming.page_requested);
    qemu_mutex_destroy(&incoming.rp_mutex);
    qemu_mutex_destroy(&incoming.page_request_mutex);
    block_free(rb);
}

static bool request(unsigned int page)
{
    bool done = postcopy_request_now(&incoming, rb, page * TARGET_SIZE);

    /* Whatever happens, nothing is held. */
    g_assert_false(qemu_mutex_trylock(&incoming.rp_mutex));
    qemu_mutex_unlock(&incoming.rp_mutex);
    return done;
}

static void assert_gets(unsigned int page)
{
    uint64_t start;

    g_assert_cmpint(recv(source, &start, sizeof(start), MSG_DONTWAIT), ==,
                    sizeof(start));
    g_assert_cmphex(be64_to_cpu(start), ==, page * TARGET_SIZE);
}

static void assert_gets_nothing(void)
{
    char byte;

    g_assert_cmpint(recv(source, &byte, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
}

static void assert_requested(unsigned int count)
{
    g_assert_cmpint(g_tree_nnodes(incoming.page_requested), ==, count);
    g_assert_cmpint(incoming.page_requested_count, ==, count);
}

/* --- Tests --- */

static void test_sent(void)
{
    setup();
    g_assert_true(request(3));
    assert_gets(3);
    g_assert_true(request(5));
    assert_gets(5);
    assert_requested(2);
    g_assert_nonnull(g_tree_lookup(incoming.page_requested,
                                   rb->host + 3 * TARGET_SIZE));
    teardown();
}

static void test_once(void)
{
    setup();
    g_assert_true(request(3));
    assert_gets(3);
    g_assert_true(request(3));
    set_bit(4, rb->receivedmap);
    g_assert_true(request(4));
    assert_gets_nothing();
    assert_requested(1);
    teardown();
}

static void assert_not_now(void)
{
    g_assert_false(postcopy_request_now(&incoming, rb, 0));
    assert_requested(0);
}

/* Somebody else sends, or has the tree. */
static void test_locked(void)
{
    setup();
    WITH_QEMU_LOCK_GUARD(&incoming.rp_mutex) {
        assert_not_now();
    }
    WITH_QEMU_LOCK_GUARD(&incoming.page_request_mutex) {
        assert_not_now();
    }
    assert_gets_nothing();
    g_assert_true(request(0));
    assert_gets(0);
    teardown();
}

/* Paused, or both sides talk about what is missing. */
static void test_not_active(void)
{
    setup();
    incoming.state = MIGRATION_STATUS_POSTCOPY_PAUSED;
    assert_not_now();
    incoming.state = MIGRATION_STATUS_POSTCOPY_RECOVER;
    assert_not_now();
    assert_gets_nothing();

    incoming.state = MIGRATION_STATUS_POSTCOPY_ACTIVE;
    qemu_fclose(incoming.to_src_file);
    incoming.to_src_file = NULL;
    assert_not_now();
    teardown();
}

/* The source does not read: returns all the same. */
static void test_full(void)
{
    unsigned int n = 0;

    setup();
    while (request(0)) {
        /* As if it had come: the next one is another request. */
        g_tree_remove(incoming.page_requested, rb->host);
        qatomic_dec(&incoming.page_requested_count);
        g_assert_cmpuint(n++, <, 1000000);
    }
    g_assert_cmpuint(n, >, 0);
    assert_requested(0);
    while (n--) {
        assert_gets(0);
    }
    g_assert_true(request(1));
    assert_gets(1);
    teardown();
}

/* The source is gone: the recovery sends what is in the tree. */
static void test_broken(void)
{
    setup();
    qemu_file_set_error(incoming.to_src_file, -EPIPE);
    assert_not_now();
    teardown();

    setup();
    close(source);
    source = -1;
    assert_not_now();
    teardown();
}

/* The end closes it before it frees what a request needs. */
static void test_closed(void)
{
    setup();
    postcopy_request_close(&incoming);
    assert_not_now();
    assert_gets_nothing();
    postcopy_request_open(&incoming);
    g_assert_true(request(0));
    assert_gets(0);
    teardown();
}

/* Requests until the migration's end, which then frees it all. */
static void *sender(void *opaque)
{
    unsigned int *nr = opaque;

    while (postcopy_request_now(&incoming, rb, (*nr % 8) * TARGET_SIZE) ||
           !qatomic_read(&over)) {
        qatomic_inc(nr);
    }
    return NULL;
}

static void test_race_close(void)
{
    for (int i = 0; i < 20; i++) {
        unsigned int nr = 0;
        QemuThread thread;

        setup();
        qatomic_set(&over, false);
        qemu_thread_create(&thread, "vcpu", sender, &nr, QEMU_THREAD_JOINABLE);
        while (qatomic_read(&nr) < 10) {
            sched_yield();
        }
        postcopy_request_close(&incoming);
        /* As the end does, while others may still try. */
        qemu_fclose(incoming.to_src_file);
        incoming.to_src_file = NULL;
        g_tree_destroy(incoming.page_requested);
        incoming.page_requested = NULL;
        qatomic_set(&over, true);
        qemu_thread_join(&thread);
        incoming.page_requested = g_tree_new(compare);
        teardown();
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    module_call_init(MODULE_INIT_QOM);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/postcopy-request/sent", test_sent);
    g_test_add_func("/postcopy-request/once", test_once);
    g_test_add_func("/postcopy-request/locked", test_locked);
    g_test_add_func("/postcopy-request/not-active", test_not_active);
    g_test_add_func("/postcopy-request/full", test_full);
    g_test_add_func("/postcopy-request/broken", test_broken);
    g_test_add_func("/postcopy-request/closed", test_closed);
    g_test_add_func("/postcopy-request/race/close", test_race_close);
    return g_test_run();
}
