/*
 * QTest testcases for postcopy with KVM userfault on huge pages
 *
 * They come piece by piece, from any source.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "libqtest.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/hugetlb/"

#define ORACLE "-global migration.x-postcopy-kvm-userfault-oracle=on"

/* 150 MB for each side. */
#define HUGE_2M "-m %1$s -machine memory-backend=ram " \
    "-object memory-backend-memfd,id=ram,size=%1$s,share=on,hugetlb=on," \
    "hugetlbsize=2M"
#define PAGES_2M (2 * 75)

/* One page each, of which the guest uses a part. */
#define HUGE_1G "-m 1G -machine memory-backend=ram " \
    "-object memory-backend-memfd,id=ram,size=1G,share=on,hugetlb=on," \
    "hugetlbsize=1G"
#define PAGES_1G 2

/* As a source that does not know of pieces. */
#define WHOLE "-global migration.x-postcopy-pieces=off"

typedef struct HugeTest {
    const char *name;
    const char *backend;
    size_t page_kb;
    unsigned int pages;
    bool preempt;
    bool recovery;
    const char *opts_source;
    const char *opts_target;
} HugeTest;

/* --- The host's huge pages --- */

static char *pool_path(size_t page_kb, const char *name)
{
    return g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%zukB/%s",
                           page_kb, name);
}

static unsigned long pool_get(size_t page_kb, const char *name)
{
    g_autofree char *path = pool_path(page_kb, name);
    g_autofree char *text = NULL;
    unsigned long nr = 0;

    if (g_file_get_contents(path, &text, NULL, NULL)) {
        g_assert_cmpint(qemu_strtoul(g_strchomp(text), NULL, 10, &nr), ==, 0);
    }
    return nr;
}

/* What is not allowed, or not possible, is seen by who reads it. */
static void pool_set(size_t page_kb, unsigned long nr)
{
    g_autofree char *path = pool_path(page_kb, "nr_hugepages");
    FILE *f = fopen(path, "w");

    if (f) {
        fprintf(f, "%lu", nr);
        fclose(f);
    }
}

/* Pages of 1 GB mostly can be reserved only when the host boots. */
static bool pool_fill(size_t page_kb, unsigned long nr)
{
    unsigned long there = pool_get(page_kb, "free_hugepages");

    if (there < nr) {
        pool_set(page_kb, pool_get(page_kb, "nr_hugepages") + nr - there);
        there = pool_get(page_kb, "free_hugepages");
    }
    return there >= nr;
}

/* --- Tests --- */

static void hook_end(QTestState *from, QTestState *to, void *opaque)
{
    g_assert_cmpint(migrate_query_kvm_userfault(to, "duplicate-pages"), ==, 0);
}

/* While the connection is down, the guest does not get far. */
static void hook_end_recovered(QTestState *from, QTestState *to, void *opaque)
{
    g_assert_cmpint(migrate_query_kvm_userfault(to, "vcpu-faults"), >, 0);
    hook_end(from, to, opaque);
}

static void test_huge(const void *opaque)
{
    const HugeTest *test = opaque;
    unsigned long before = pool_get(test->page_kb, "nr_hugepages");
    MigrateCommon args = {
        .start.memory_backend = test->backend,
        .start.opts_source = test->opts_source,
        .start.opts_target = test->opts_target,
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = test->preempt,
        .end_hook = test->recovery ? hook_end_recovered : hook_end,
    };

    if (!pool_fill(test->page_kb, test->pages)) {
        g_test_skip("the host has not got enough huge pages, or they can't be "
                    "reserved");
    } else if (test->recovery) {
        test_postcopy_recovery_common(&args);
    } else {
        test_postcopy_common(&args);
    }
    pool_set(test->page_kb, before);
}

static const HugeTest huge_tests[] = {
    { "2m/plain", HUGE_2M, 2 * KiB, PAGES_2M },
    { "2m/preempt/plain", HUGE_2M, 2 * KiB, PAGES_2M, true },
    { "2m/recovery/plain", HUGE_2M, 2 * KiB, PAGES_2M, false, true },
    { "2m/preempt/recovery/plain", HUGE_2M, 2 * KiB, PAGES_2M, true, true },
    { "2m/oracle", HUGE_2M, 2 * KiB, PAGES_2M, false, false, NULL, ORACLE },
    { "2m/whole", HUGE_2M, 2 * KiB, PAGES_2M, false, false, WHOLE },
    { "2m/preempt/whole", HUGE_2M, 2 * KiB, PAGES_2M, true, false, WHOLE },
    { "1g/plain", HUGE_1G, MiB, PAGES_1G },
    { "1g/preempt/plain", HUGE_1G, MiB, PAGES_1G, true },
    { "1g/recovery/plain", HUGE_1G, MiB, PAGES_1G, false, true },
};

void migration_test_add_postcopy_kvm_userfault_hugetlb(MigrationTestEnv *env)
{
    for (int i = 0; i < ARRAY_SIZE(huge_tests); i++) {
        g_autofree char *path = g_strconcat(PREFIX, huge_tests[i].name, NULL);

        qtest_add_data_func(path, &huge_tests[i], test_huge);
    }
}
