/*
 * QTest testcases for bad streams in postcopy with KVM userfault
 *
 * Until the destination has loaded the devices, the source keeps the guest and
 * goes on.  From then on both pause and can be recovered, unless memory is lost
 * for good.  In no case does the guest go on with wrong memory, or twice.
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
    /* Options of the source */
    const char *source;
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
                              (const char * []) { "failed", "completed",
                                                  NULL });
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

static bool has_run_state(QTestState *who, const char *state)
{
    QDict *rsp = qtest_qmp_assert_success_ref(who,
                                              "{ 'execute': 'query-status' }");
    bool has = g_str_equal(qdict_get_str(rsp, "status"), state);

    qobject_unref(rsp);
    return has;
}

/* The source has stopped the guest, and starts it again. */
static void wait_for_guest_at_source(QTestState *from)
{
    wait_for_migration_status(from, "failed",
                              (const char * []) { "postcopy-paused",
                                                  "completed", NULL });
    while (!has_run_state(from, "running")) {
        g_usleep(10000);
    }
}

static void check_guest_stays(QTestState *from, QTestState *to,
                              StreamProxy *proxy)
{
    expect_exit(to);
    start_postcopy(from);
    qtest_wait_qemu(to);
    wait_for_guest_at_source(from);
    migrate_end(from, to, false);
}

/* The destination has all of the device state, and must not run it. */
static void check_guest_stays_and_other_waits(QTestState *from, QTestState *to,
                                              StreamProxy *proxy)
{
    start_postcopy(from);
    wait_for_paused(to);
    wait_for_guest_at_source(from);
    g_usleep(G_USEC_PER_SEC);
    g_assert_true(has_run_state(to, "inmigrate"));
    migrate_end(from, to, false);
}

static void recover_before_run(QTestState *from, QTestState *to)
{
    wait_for_paused(to);
    wait_for_paused(from);
    g_assert_true(has_run_state(to, "inmigrate"));
    recover(from, to);
    wait_for_end(from, to);
    migrate_end(from, to, true);
}

/* The destination does not run the guest yet. */
static void check_recoverable_before_run(QTestState *from, QTestState *to,
                                         StreamProxy *proxy)
{
    start_postcopy(from);
    recover_before_run(from, to);
}

/* It does not although it has all of its memory. */
static void check_recoverable_at_end(QTestState *from, QTestState *to,
                                     StreamProxy *proxy)
{
    start_postcopy(from);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    recover_before_run(from, to);
}

/* Only the source does not know that all is well; it must not go on. */
static void check_source_waits(QTestState *from, QTestState *to,
                               StreamProxy *proxy)
{
    run_postcopy(from, to, proxy);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    wait_for_migration_complete(to);
    wait_for_paused(from);
    g_usleep(G_USEC_PER_SEC);
    g_assert_false(has_run_state(from, "running"));
    wait_for_serial("dest_serial");
    migrate_check_kvm_userfault(to);
    migrate_end(from, to, true);
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
    { "cut/discard", STREAM_CUT_DISCARD, check_guest_stays },
    { "cut/package", STREAM_CUT_PACKAGE, check_guest_stays },
    { "cut/listening", STREAM_CUT_LISTENING,
      check_guest_stays_and_other_waits },
    /* As a source does that knows nothing of this */
    { "cut/listening-unasked", STREAM_CUT_LISTENING,
      check_recoverable_before_run, "-global migration.x-postcopy-commit=off" },
    { "cut/commit", STREAM_CUT_COMMIT, check_recoverable_before_run },
    { "no-commit", STREAM_NO_COMMIT, check_recoverable_at_end },
    { "cut/end", STREAM_CUT_END, check_source_waits },
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
        .opts_source = bad->source,
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
