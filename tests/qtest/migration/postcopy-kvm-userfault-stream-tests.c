/*
 * QTest testcases for bad streams in postcopy with KVM userfault
 *
 * Before the destination runs, it gives up.  Then it pauses and can be
 * recovered, unless memory is lost for good.  In no case does the guest go on
 * with wrong memory.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"
#include "migration/stream-proxy.h"

typedef struct BadStream {
    const char *name;
    StreamFault fault;
    void (*check)(QTestState *from, QTestState *to, StreamProxy *proxy);
} BadStream;

static void give_fd(QTestState *who, int fd)
{
    qtest_qmp_fds_assert_success(who, &fd, 1,
                                 "{ 'execute': 'getfd',"
                                 "  'arguments': { 'fdname': 'fd-mig' } }");
    close(fd);
}

static void wait_for_paused(QTestState *who)
{
    wait_for_migration_status(who, "postcopy-paused",
                              (const char * []) { "failed", "active",
                                                  "completed", NULL });
}

static void expect_exit(QTestState *to)
{
    qtest_set_expected_status(to, EXIT_FAILURE);
}

/* The switch to postcopy, slow enough for what comes after it to be timed. */
static void start_postcopy(QTestState *from)
{
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 4096);
    qtest_qmp_assert_success(from, "{ 'execute': 'migrate-start-postcopy' }");
}

static void run_postcopy(QTestState *from, QTestState *to, StreamProxy *proxy)
{
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 4096);
    migrate_postcopy_start(from, to, get_src());
    stream_proxy_arm(proxy);
}

static void recover(QTestState *from, QTestState *to)
{
    g_autofree char *uri = g_strdup_printf("unix:%s/migsocket",
                                           migration_get_env()->tmpfs);

    migrate_recover(to, uri);
    migrate_qmp(from, to, uri, NULL, "{'resume': true}");
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
}

static void wait_for_end(QTestState *from, QTestState *to)
{
    wait_for_migration_complete(from);
    wait_for_serial("dest_serial");
    migrate_check_kvm_userfault(to);
}

static void check_source_runs(QTestState *from, QTestState *to,
                              StreamProxy *proxy)
{
    expect_exit(to);
    wait_for_migration_fail(from, true);
    migrate_end(from, to, false);
}

/* The source has stopped already, and answers still. */
static void check_destination_exits(QTestState *from, QTestState *to,
                                    StreamProxy *proxy)
{
    expect_exit(to);
    start_postcopy(from);
    qtest_wait_qemu(to);
    g_free(migrate_query_status(from));
    migrate_end(from, to, false);
}

static void check_memory_lost(QTestState *from, QTestState *to,
                              StreamProxy *proxy)
{
    expect_exit(to);
    run_postcopy(from, to, proxy);
    qtest_wait_qemu(to);
    migrate_end(from, to, false);
}

static void check_recoverable(QTestState *from, QTestState *to,
                              StreamProxy *proxy)
{
    run_postcopy(from, to, proxy);
    wait_for_paused(to);
    wait_for_paused(from);
    recover(from, to);
    wait_for_end(from, to);
    migrate_end(from, to, true);
}

static void check_ignored(QTestState *from, QTestState *to, StreamProxy *proxy)
{
    run_postcopy(from, to, proxy);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    wait_for_end(from, to);
    g_assert_cmpint(stream_proxy_repeated(proxy), >, 0);
    g_assert_cmpint(migrate_query_kvm_userfault(to, "duplicate-pages"), ==,
                    stream_proxy_repeated(proxy));
    migrate_end(from, to, true);
}

static const BadStream bad_streams[] = {
    { "cut/header", STREAM_CUT_HEADER, check_source_runs },
    { "cut/precopy", STREAM_CUT_PRECOPY, check_source_runs },
    { "cut/discard", STREAM_CUT_DISCARD, check_destination_exits },
    { "cut/package", STREAM_CUT_PACKAGE, check_destination_exits },
    { "cut/postcopy", STREAM_CUT_POSTCOPY, check_recoverable },
    { "early-end", STREAM_EARLY_END, check_memory_lost },
    { "repeated-pages", STREAM_REPEATED_PAGES, check_ignored },
    { "beyond-block", STREAM_BEYOND_BLOCK, check_recoverable },
    { "unknown-block", STREAM_UNKNOWN_BLOCK, check_recoverable },
    { "unknown-flags", STREAM_UNKNOWN_FLAGS, check_recoverable },
};

static bool cut_in_precopy(const BadStream *bad)
{
    return bad->check == check_source_runs;
}

static void test_bad_stream(const void *opaque)
{
    const BadStream *bad = opaque;
    MigrateStart args = {
        .oob = true,
        .hide_stderr = true,
    };
    int source, destination;
    QTestState *from, *to;
    StreamProxy *proxy;

    if (migrate_start(&from, &to, "defer", &args)) {
        return;
    }

    migrate_set_capability(to, "postcopy-kvm-userfault", true);
    migrate_set_capability(to, "postcopy-ram", true);
    migrate_set_capability(to, "postcopy-blocktime", true);
    migrate_set_capability(from, "postcopy-ram", true);
    migrate_ensure_non_converge(from);
    migrate_prepare_for_dirty_mem(from);

    proxy = stream_proxy_new(bad->fault, &source, &destination);
    give_fd(from, source);
    give_fd(to, destination);
    migrate_incoming_qmp(to, "fd:fd-mig", NULL, "{}");
    wait_for_serial("src_serial");
    migrate_qmp(from, to, "fd:fd-mig", NULL, "{}");
    if (!cut_in_precopy(bad)) {
        migrate_wait_for_dirty_mem(from, to);
    }

    bad->check(from, to, proxy);
    stream_proxy_free(proxy);
}

void migration_test_add_postcopy_kvm_userfault_streams(MigrationTestEnv *env)
{
    for (int i = 0; i < ARRAY_SIZE(bad_streams); i++) {
        g_autofree char *path = g_strconcat(
            "/migration/postcopy-kvm-userfault/stream/", bad_streams[i].name,
            NULL);

        qtest_add_data_func(path, &bad_streams[i], test_bad_stream);
    }
}
