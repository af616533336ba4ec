/*
 * Tests of pages behind those that vCPUs wait for
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "exec/ramblock.h"
#include "ram-helpers.h"
#include "../../migration/migration.h"
#include "../../migration/options.h"
#include "../../migration/postcopy-around.h"
#include "../../migration/postcopy-request.h"
#include "../../migration/qemu-file.h"
#include "../../migration/ram.h"

#define NR_PAGES 4096

/* --- A migration --- */

static MigrationState migration;
static bool preempt;
/* In the buffer of the return path is a message. */
static bool has_input;
/* Files are only told apart here. */
static char files[2];
static QEMUFile *const return_path = (QEMUFile *)&files[0];
/* The other ends are the destination's. */
static int rp_fds[2], channel_fds[2];
static unsigned long sent[NR_PAGES];
/* Another thread looks at it. */
static unsigned int nr_sent;
/* After so many pages there is a message; and an error. */
static unsigned int message_after, error_after;

MigrationState *migrate_get_current(void)
{
    return &migration;
}

bool migrate_postcopy_preempt(void)
{
    return preempt;
}

int postcopy_request_fd(QEMUFile *f)
{
    return f == return_path ? rp_fds[0] : channel_fds[0];
}

bool qemu_file_has_input(QEMUFile *f)
{
    g_assert_true(f == return_path);
    return has_input;
}

static void send_message(void)
{
    g_assert_cmpint(write(rp_fds[1], "", 1), ==, 1);
}

static void take_message(void)
{
    char byte;

    g_assert_cmpint(read(rp_fds[0], &byte, 1), ==, 1);
}

int ram_save_around(RAMBlock *rb, unsigned long page)
{
    g_assert_true(test_and_clear_bit(page, rb->bmap));
    sent[nr_sent] = page;
    qatomic_set(&nr_sent, nr_sent + 1);
    if (nr_sent == message_after) {
        send_message();
    }
    return nr_sent == error_after ? -1 : 0;
}

static RAMBlock *start(void)
{
    RAMBlock *rb = block_new("around", TARGET_SIZE, NR_PAGES);

    preempt = true;
    has_input = false;
    nr_sent = 0;
    message_after = 0;
    error_after = 0;
    migration.postcopy_around = 64;
    migration.postcopy_qemufile_src = (QEMUFile *)&files[1];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, rp_fds), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, channel_fds), ==, 0);
    rb->bmap = bitmap_new(NR_PAGES);
    bitmap_set(rb->bmap, 0, NR_PAGES);
    postcopy_around_reset();
    return rb;
}

static void end(RAMBlock *rb)
{
    for (int i = 0; i < 2; i++) {
        close(rp_fds[i]);
        close(channel_fds[i]);
    }
    g_free(rb->bmap);
    block_free(rb);
}

/* --- Destination --- */

/* A vCPU waits for a page; how many behind it are asked for? */
static unsigned int next(RAMBlock *rb, unsigned long page)
{
    size_t len = postcopy_around_next(rb, page * TARGET_SIZE);

    g_assert_true(QEMU_IS_ALIGNED(len, TARGET_SIZE));
    g_assert_cmphex((page + 1) * TARGET_SIZE + len, <=, rb->postcopy_length);
    return len / TARGET_SIZE;
}

/* What a thread has asked for is its own: each test is another vCPU. */
static void in_thread(void *(*run)(void *))
{
    RAMBlock *rb = start();
    QemuThread thread;

    qemu_thread_create(&thread, "vcpu", run, rb, QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);
    end(rb);
}

static void *sequential(void *opaque)
{
    const unsigned int expected[] = { 0, 4, 8, 16, 32, 64, 64, 64 };
    RAMBlock *rb = opaque;
    unsigned long page = 100;

    for (int i = 0; i < ARRAY_SIZE(expected); i++) {
        g_assert_cmpuint(next(rb, page), ==, expected[i]);
        page += 1 + expected[i];
    }
    return NULL;
}

static void test_sequential(void)
{
    in_thread(sequential);
}

/* No two of these pages are close to each other. */
static void *random_order(void *opaque)
{
    for (unsigned long i = 0; i < NR_PAGES; i++) {
        g_assert_cmpuint(next(opaque, i * 1021 % NR_PAGES), ==, 0);
    }
    return NULL;
}

static void test_random(void)
{
    in_thread(random_order);
}

/* It gets to where the rest is still on its way, or has got there already. */
static void *in_between(void *opaque)
{
    g_assert_cmpuint(next(opaque, 10), ==, 0);
    g_assert_cmpuint(next(opaque, 11), ==, 4);
    /* 12 to 15 are on their way: it has as much as it uses. */
    g_assert_cmpuint(next(opaque, 13), ==, 4);
    g_assert_cmpuint(next(opaque, 18), ==, 8);
    /* The background has brought some behind 26. */
    g_assert_cmpuint(next(opaque, 30), ==, 16);
    /* It is somewhere else, and goes on there. */
    g_assert_cmpuint(next(opaque, 1000), ==, 4);
    g_assert_cmpuint(next(opaque, 1005), ==, 8);
    g_assert_cmpuint(next(opaque, 900), ==, 2);
    g_assert_cmpuint(next(opaque, 700), ==, 0);
    return NULL;
}

static void test_in_between(void)
{
    in_thread(in_between);
}

static void *to_the_end(void *opaque)
{
    RAMBlock *rb = opaque, *other = block_new("other", TARGET_SIZE, NR_PAGES);

    for (unsigned long page = NR_PAGES - 200; page < NR_PAGES;) {
        page += 1 + next(rb, page);
    }
    g_assert_cmpuint(next(rb, NR_PAGES - 1), ==, 0);
    /* Another block begins anew. */
    for (unsigned long page = 0; page < 300;) {
        page += 1 + next(rb, page);
    }
    g_assert_cmpuint(next(other, 300), <=, 16);
    block_free(other);
    return NULL;
}

static void test_end(void)
{
    in_thread(to_the_end);
}

static void *limited(void *opaque)
{
    migration.postcopy_around = 10;
    g_assert_cmpuint(next(opaque, 0), ==, 0);
    g_assert_cmpuint(next(opaque, 1), ==, 4);
    g_assert_cmpuint(next(opaque, 6), ==, 8);
    g_assert_cmpuint(next(opaque, 15), ==, 10);
    g_assert_cmpuint(next(opaque, 26), ==, 10);
    migration.postcopy_around = 0;
    g_assert_cmpuint(next(opaque, 37), ==, 0);
    return NULL;
}

static void test_limit(void)
{
    in_thread(limited);
}

static void *no_preempt(void *opaque)
{
    preempt = false;
    for (unsigned long page = 0; page < 10; page++) {
        g_assert_cmpuint(next(opaque, page), ==, 0);
    }
    return NULL;
}

/* The background goes on behind the page by itself. */
static void test_no_preempt(void)
{
    in_thread(no_preempt);
}

/* --- Source --- */

static void take(RAMBlock *rb, unsigned long page, unsigned int pages)
{
    g_assert_cmphex(postcopy_around_take(rb, page * TARGET_SIZE,
                                         pages * TARGET_SIZE, TARGET_SIZE),
                    ==, TARGET_SIZE);
    clear_bit(page, rb->bmap);
}

static void send_kept(void)
{
    g_assert_true(postcopy_around_send(&migration, return_path, &error_abort));
}

static void assert_sent(unsigned int from, unsigned long page,
                        unsigned int pages)
{
    for (unsigned int i = 0; i < pages; i++) {
        g_assert_cmpuint(sent[from + i], ==, page + i);
    }
}

/* What is not sent yet, in the order in which it was asked for. */
static void test_send(void)
{
    RAMBlock *rb = start();

    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    take(rb, 7, 1);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);

    take(rb, 50, 9);
    take(rb, 10, 5);
    bitmap_clear(rb->bmap, 53, 2);
    send_kept();
    assert_sent(0, 51, 2);
    assert_sent(2, 55, 4);
    assert_sent(6, 11, 4);
    g_assert_cmpuint(nr_sent, ==, 10);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 10);
    end(rb);
}

/* Whoever waits for a page comes first; the rest is sent later. */
static void test_message(void)
{
    RAMBlock *rb = start();

    take(rb, 100, 65);
    message_after = 10;
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 10);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 10);
    take_message();
    take(rb, 500, 3);
    /* In the file's buffer: nothing is to be seen at the socket. */
    has_input = true;
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 10);
    has_input = false;
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 66);
    assert_sent(0, 101, 64);
    assert_sent(64, 501, 2);
    end(rb);
}

/* A destination that reads again, when the source has waited for it. */
static void *read_later(void *opaque)
{
    char bytes[4096];

    g_usleep(50000);
    g_assert_cmpuint(qatomic_read(&nr_sent), ==, 0);
    while (recv(channel_fds[1], bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
        continue;
    }
    return NULL;
}

/* What was sent has not left: it waits, and hears of a message meanwhile. */
static void test_full(void)
{
    RAMBlock *rb = start();
    char bytes[4096] = "";
    QemuThread thread;

    while (send(channel_fds[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
        continue;
    }
    take(rb, 0, 10);
    send_message();
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    take_message();

    qemu_thread_create(&thread, "reader", read_later, NULL,
                       QEMU_THREAD_JOINABLE);
    send_kept();
    qemu_thread_join(&thread);
    assert_sent(0, 1, 9);
    end(rb);
}

/* The oldest are dropped.  They come with all else. */
static void test_many(void)
{
    RAMBlock *rb = start();

    for (unsigned int i = 0; i < 70; i++) {
        take(rb, 10 * i, 2);
    }
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 64);
    for (unsigned int i = 0; i < 64; i++) {
        g_assert_cmpuint(sent[i], ==, 10 * (i + 6) + 1);
    }
    end(rb);
}

static void test_error(void)
{
    RAMBlock *rb = start();
    Error *err = NULL;

    take(rb, 0, 10);
    error_after = 3;
    g_assert_false(postcopy_around_send(&migration, return_path, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Pages of RAM block 'around' could not be sent");
    error_free(err);
    g_assert_cmpuint(nr_sent, ==, 3);
    end(rb);
}

/* The link is gone: the thread finds out where it reads. */
static void test_broken(void)
{
    RAMBlock *rb = start();

    take(rb, 0, 10);
    shutdown(channel_fds[0], SHUT_RDWR);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    end(rb);

    rb = start();
    take(rb, 0, 10);
    shutdown(rp_fds[0], SHUT_RDWR);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    /* And another one is there. */
    postcopy_around_reset();
    end(rb);
    rb = start();
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    end(rb);
}

/* Whole huge pages, by the rules of a destination that does not know. */
static void test_whole(void)
{
    RAMBlock *rb = start(), *huge = block_new("huge", 2 * MiB, 2);

    g_assert_cmphex(postcopy_around_take(huge, 0, 4 * MiB, 2 * MiB), ==,
                    4 * MiB);
    send_kept();
    g_assert_cmpuint(nr_sent, ==, 0);
    block_free(huge);
    end(rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-around/next/sequential", test_sequential);
    g_test_add_func("/postcopy-around/next/random", test_random);
    g_test_add_func("/postcopy-around/next/in-between", test_in_between);
    g_test_add_func("/postcopy-around/next/end", test_end);
    g_test_add_func("/postcopy-around/next/limit", test_limit);
    g_test_add_func("/postcopy-around/next/no-preempt", test_no_preempt);
    g_test_add_func("/postcopy-around/send", test_send);
    g_test_add_func("/postcopy-around/send/message", test_message);
    g_test_add_func("/postcopy-around/send/full", test_full);
    g_test_add_func("/postcopy-around/send/many", test_many);
    g_test_add_func("/postcopy-around/send/error", test_error);
    g_test_add_func("/postcopy-around/send/broken", test_broken);
    g_test_add_func("/postcopy-around/send/whole", test_whole);
    return g_test_run();
}
