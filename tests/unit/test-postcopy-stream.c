/*
 * Tests of what may come in a postcopy stream, and where
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "exec/ramblock.h"
#include "migration/register.h"
#include "ram-helpers.h"
#include "../../migration/migration.h"
#include "../../migration/options.h"
#include "../../migration/postcopy-pieces.h"
#include "../../migration/postcopy-stream.h"

#define PAGES 64
#define SIZE (PAGES * TARGET_SIZE)

/* --- A migration --- */

static MigrationState outgoing;
static MigrationIncomingState incoming;
static bool preempt, in_postcopy;
static size_t unit;
/* Nobody looks into these. */
static QEMUFile *const stream = (void *)1;
static QEMUFile *const package = (void *)2;

MigrationState *migrate_get_current(void)
{
    return &outgoing;
}

bool migrate_postcopy_preempt(void)
{
    return preempt;
}

bool migration_in_postcopy(void)
{
    return in_postcopy;
}

size_t postcopy_pieces_unit(RAMBlock *rb)
{
    return unit;
}

/* --- Where --- */

static const unsigned int nowhere, anywhere = POSTCOPY_IN_PACKAGE |
                                              POSTCOPY_WITH_PAGES;

static bool takes(QEMUFile *f, unsigned int places)
{
    return postcopy_stream_takes(&incoming, f, places, "COMMAND");
}

static void test_before(void)
{
    incoming = (MigrationIncomingState) { .from_src_file = stream };
    g_assert_true(takes(stream, nowhere));
    g_assert_true(takes(stream, POSTCOPY_IN_PACKAGE));
    g_assert_true(takes(stream, POSTCOPY_WITH_PAGES));
    /* No package in a package, and nothing that belongs to precopy. */
    g_assert_true(takes(package, POSTCOPY_IN_PACKAGE));
    g_assert_false(takes(package, POSTCOPY_WITH_PAGES));
    g_assert_false(takes(package, nowhere));
}

static bool has_postcopy(void *opaque)
{
    return *(bool *)opaque;
}

static const SaveVMHandlers ram = { .has_postcopy = has_postcopy };
static const SaveVMHandlers device;

static bool takes_part(QEMUFile *f, const SaveVMHandlers *ops, bool postcopy)
{
    return postcopy_stream_takes_part(&incoming, f, ops, &postcopy, "part");
}

static void *listen_thread(void *opaque)
{
    /* As postcopy_thread_create() does, whoever is faster. */
    qemu_thread_get_self(&incoming.listen_thread);
    g_assert_true(takes(stream, POSTCOPY_WITH_PAGES));
    g_assert_true(takes(stream, anywhere));
    g_assert_false(takes(stream, POSTCOPY_IN_PACKAGE));
    g_assert_false(takes(stream, nowhere));

    g_assert_true(takes_part(stream, &ram, true));
    g_assert_false(takes_part(stream, &ram, false));
    g_assert_false(takes_part(stream, &device, true));
    g_assert_false(takes_part(stream, NULL, true));
    return NULL;
}

static void test_listening(void)
{
    QemuThread thread;

    incoming = (MigrationIncomingState) {
        .from_src_file = stream,
        .have_listen_thread = true,
    };
    qemu_thread_create(&thread, "listen", listen_thread, NULL,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);

    /* The main thread has the package; the stream's file is not its own. */
    incoming.from_src_file = NULL;
    g_assert_true(takes(package, POSTCOPY_IN_PACKAGE));
    g_assert_true(takes(package, anywhere));
    g_assert_false(takes(package, POSTCOPY_WITH_PAGES));
    g_assert_false(takes(package, nowhere));
    g_assert_true(takes_part(package, &device, false));
}

/* --- Pages --- */

static bool in_range(RAMBlock *rb, uint64_t start, uint64_t length)
{
    Error *err = NULL;
    bool ret = postcopy_stream_range(rb, start, length, &err);

    g_assert_true(ret == !err);
    error_free(err);
    return ret;
}

static void test_range(void)
{
    RAMBlock *rb = block_new("range", TARGET_SIZE, PAGES);

    g_assert_true(in_range(rb, 0, TARGET_SIZE));
    g_assert_true(in_range(rb, 0, SIZE));
    g_assert_true(in_range(rb, SIZE - TARGET_SIZE, TARGET_SIZE));

    g_assert_false(in_range(rb, 0, 0));
    g_assert_false(in_range(rb, SIZE, TARGET_SIZE));
    g_assert_false(in_range(rb, 0, SIZE + TARGET_SIZE));
    g_assert_false(in_range(rb, SIZE - TARGET_SIZE, 2 * TARGET_SIZE));
    g_assert_false(in_range(rb, 1ULL << 63, TARGET_SIZE));
    g_assert_false(in_range(rb, 0, 1ULL << 63));
    /* They end where the block does, after 2^64 bytes. */
    g_assert_false(in_range(rb, -TARGET_SIZE, 2 * TARGET_SIZE));
    g_assert_false(in_range(rb, TARGET_SIZE, -TARGET_SIZE));

    g_assert_false(in_range(rb, 1, TARGET_SIZE));
    g_assert_false(in_range(rb, 0, TARGET_SIZE - 1));
    block_free(rb);
}

static bool request(RAMBlock *rb, uint64_t start, uint64_t length)
{
    Error *err = NULL;
    bool ret = postcopy_stream_request(rb, start, length, &err);

    g_assert_true(ret == !err);
    error_free(err);
    return ret;
}

static void test_request(void)
{
    RAMBlock *rb = block_new("request", TARGET_SIZE, PAGES);
    unsigned long bmap;

    preempt = false;
    in_postcopy = true;
    /* A block that is not migrated. */
    g_assert_false(request(rb, 0, TARGET_SIZE));
    rb->bmap = &bmap;
    g_assert_true(request(rb, 0, TARGET_SIZE));
    g_assert_true(request(rb, 0, SIZE));
    g_assert_false(request(rb, SIZE, TARGET_SIZE));
    g_assert_false(request(rb, -TARGET_SIZE, 2 * TARGET_SIZE));
    rb->bmap = NULL;
    block_free(rb);
}

static void test_request_preempt(void)
{
    RAMBlock *rb = block_new("request-preempt", 2 * TARGET_SIZE, PAGES / 2);
    unsigned long bmap;

    preempt = true;
    rb->bmap = &bmap;
    unit = 2 * TARGET_SIZE;
    outgoing.postcopy_qemufile_src = NULL;
    in_postcopy = false;
    g_assert_true(request(rb, 0, 2 * TARGET_SIZE));
    in_postcopy = true;
    g_assert_false(request(rb, 0, 2 * TARGET_SIZE));
    outgoing.postcopy_qemufile_src = stream;
    g_assert_true(request(rb, 0, 2 * TARGET_SIZE));
    g_assert_true(request(rb, 0, SIZE));
    g_assert_false(request(rb, 0, TARGET_SIZE));
    g_assert_false(request(rb, 0, 3 * TARGET_SIZE));
    /* In pieces. */
    unit = TARGET_SIZE;
    g_assert_true(request(rb, 0, TARGET_SIZE));
    rb->bmap = NULL;
    block_free(rb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy-stream/before", test_before);
    g_test_add_func("/postcopy-stream/listening", test_listening);
    g_test_add_func("/postcopy-stream/range", test_range);
    g_test_add_func("/postcopy-stream/request", test_request);
    g_test_add_func("/postcopy-stream/request/preempt", test_request_preempt);
    return g_test_run();
}
