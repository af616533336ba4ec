/*
 * QTest testcases for postcopy with KVM userfault: pages behind those that the
 * guest waits for
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

#define PREFIX "/migration/postcopy-kvm-userfault/preempt/around/"

/* The source's log has a line for each page that it sends unasked. */
static char *around_log(void)
{
    return g_strdup_printf("%s/around", migration_get_env()->tmpfs);
}

static unsigned int count_lines(const char *path)
{
    g_autofree char *text = NULL;
    unsigned int lines = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *p = text; (p = strchr(p, '\n')); p++) {
        lines++;
    }
    return lines;
}

/* The guest goes through its memory.  Returns pages that came unasked. */
static unsigned int pages_around(QTestState *from, int64_t requests)
{
    const int64_t before = read_ram_property_int(from, "postcopy-requests");
    g_autofree char *log = around_log();

    while (read_ram_property_int(from, "postcopy-requests") <
           before + requests) {
        g_usleep(10000);
    }
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    return count_lines(log);
}

static bool hook_check_around(QTestState *from, QTestState *to)
{
    unsigned int pages = pages_around(from, 200);

    g_test_message("200 requests brought %u pages more", pages);
    g_assert_cmpuint(pages, >, 200);
    return true;
}

static bool hook_check_not_around(QTestState *from, QTestState *to)
{
    g_assert_cmpuint(pages_around(from, 50), ==, 0);
    return true;
}

static void test_around_common(MigrateCommon *args)
{
    g_autofree char *log = around_log();
    g_autofree char *opts = g_strdup_printf(
        "-trace postcopy_around_send -D %s", log);

    args->start.opts_source = opts;
    args->start_hook = migrate_hook_start_slow_postcopy;
    args->postcopy_kvm_userfault = true;
    args->postcopy_preempt = true;
    test_postcopy_common(args);
    unlink(log);
}

static void test_around(void)
{
    MigrateCommon args = {
        .postcopy_hook = hook_check_around,
    };

    test_around_common(&args);
}

static void test_around_off(void)
{
    MigrateCommon args = {
        .start.opts_target = "-global migration.x-postcopy-around=0",
        .postcopy_hook = hook_check_not_around,
    };

    test_around_common(&args);
}

void migration_test_add_postcopy_kvm_userfault_around(MigrationTestEnv *env)
{
    migration_test_add(PREFIX "on", test_around);
    migration_test_add(PREFIX "off", test_around_off);
}
