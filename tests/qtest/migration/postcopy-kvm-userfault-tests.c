/*
 * QTest testcases for postcopy migration with KVM userfault
 *
 * The cases of postcopy-tests.c and tls-tests.c, with the destination's
 * capability postcopy-kvm-userfault.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqtest.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/"

static void test_plain(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
    };

    test_postcopy_common(&args);
}

static void test_suspend(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start.suspend_me = true,
    };

    test_postcopy_common(&args);
}

static void test_preempt(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
    };

    test_postcopy_common(&args);
}

/*
 * The limit is for pages that nobody has asked for.  It is looked at every
 * 100 ms, and here lets one page pass each time; those that the guest waits for
 * come as fast as they can.
 */
static bool hook_check_limit(QTestState *from, QTestState *to)
{
    const int64_t before = read_ram_property_int(from, "postcopy-requests");
    const int64_t start = g_get_monotonic_time();
    int64_t requests, times;

    do {
        g_usleep(10 * 1000);
        requests = read_ram_property_int(from, "postcopy-requests") - before;
    } while (requests < 200);
    times = (g_get_monotonic_time() - start) / (100 * 1000);

    g_test_message("%" PRId64 " requests, %" PRId64 " times the limit",
                   requests, times);
    g_assert_cmpint(requests, >, 4 * times);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    return true;
}

static void test_limit(void)
{
    MigrateCommon args = {
        .start_hook = migrate_hook_start_slow_postcopy,
        .postcopy_hook = hook_check_limit,
        .postcopy_kvm_userfault = true,
    };

    test_postcopy_common(&args);
}

/* While the connection is down, the guest does not get far. */
static void hook_end_check_faults(QTestState *from, QTestState *to,
                                  void *opaque)
{
    g_assert_cmpint(migrate_query_kvm_userfault(to, "vcpu-faults"), >, 0);
}

static void test_recovery(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .end_hook = hook_end_check_faults,
    };

    test_postcopy_recovery_common(&args);
}

static void test_recovery_fail_handshake(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_recovery_fail_stage = POSTCOPY_FAIL_RECOVERY,
    };

    test_postcopy_recovery_common(&args);
}

static void test_recovery_fail_reconnect(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_recovery_fail_stage = POSTCOPY_FAIL_CHANNEL_ESTABLISH,
    };

    test_postcopy_recovery_common(&args);
}

static void test_preempt_recovery(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
    };

    test_postcopy_recovery_common(&args);
}

#ifdef CONFIG_GNUTLS
static void test_tls_psk(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = migrate_hook_start_tls_psk_match,
        .end_hook = migrate_hook_end_tls_psk,
    };

    test_postcopy_common(&args);
}

static void test_preempt_tls_psk(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
        .start_hook = migrate_hook_start_tls_psk_match,
        .end_hook = migrate_hook_end_tls_psk,
    };

    test_postcopy_common(&args);
}

/*
 * The guest goes on when the display's memory is there, of which the first pass
 * has sent nothing yet.  The source sends more with each page that is asked
 * for; behind TLS on a slow host all of the guest could be there by then, and
 * nothing left to recover.
 */
#define NO_DISPLAY "-vga none"

static void test_recovery_tls_psk(void)
{
    MigrateCommon args = {
        .start.opts_source = NO_DISPLAY,
        .start.opts_target = NO_DISPLAY,
        .postcopy_kvm_userfault = true,
        .start_hook = migrate_hook_start_tls_psk_match,
        .end_hook = migrate_hook_end_tls_psk,
    };

    test_postcopy_recovery_common(&args);
}

static void test_preempt_recovery_tls_psk(void)
{
    MigrateCommon args = {
        .start.opts_source = NO_DISPLAY,
        .start.opts_target = NO_DISPLAY,
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
        .start_hook = migrate_hook_start_tls_psk_match,
        .end_hook = migrate_hook_end_tls_psk,
    };

    test_postcopy_recovery_common(&args);
}

static void add_tls(void)
{
    migration_test_add(PREFIX "tls/psk", test_tls_psk);
    migration_test_add(PREFIX "recovery/tls/psk", test_recovery_tls_psk);
    migration_test_add(PREFIX "preempt/tls/psk", test_preempt_tls_psk);
    migration_test_add(PREFIX "preempt/recovery/tls/psk",
                       test_preempt_recovery_tls_psk);
}
#else
static void add_tls(void)
{
}
#endif /* CONFIG_GNUTLS */

/* --- kvmvapic --- */

/* Above all that the guest touches by itself. */
#define VAPIC_CODE 0x6500000
#define VAPIC_DONE (VAPIC_CODE + 0x100)
#define VAPIC_ROM (VAPIC_CODE + 0x2000)
/* In the boot sector: five bytes after each pass over memory, and the rest. */
#define BOOT_PASS 0x7c5f
#define BOOT_PASS_END (BOOT_PASS + 5)

/* An address, or how far it is to one. */
static void put_le32(uint8_t *p, int64_t value)
{
    uint32_t le = cpu_to_le32(value);

    memcpy(p, &le, sizeof(le));
}

/*
 * The guest tells kvmvapic of an option ROM that it has above 1 MB, and writes
 * to it after each pass over memory, so that it has to come in postcopy.
 */
static void *hook_start_vapic(QTestState *from, QTestState *to)
{
    const uint8_t size = 1;
    uint8_t jump[] = { 0xe9, 0, 0, 0, 0 };
    uint8_t code[] = {
        0xfe, 0x05, 0, 0, 0, 0,     /* incb VAPIC_ROM + 16 */
        0x80, 0x3d, 0, 0, 0, 0, 0,  /* cmpb $0,VAPIC_DONE */
        0x75, 17,                   /* jne the rest */
        0xc6, 0x05, 0, 0, 0, 0, 1,  /* movb $1,VAPIC_DONE */
        0x66, 0xba, 0x7e, 0,        /* mov $0x7e,%dx */
        0x66, 0xb8, 0, 0x20,        /* mov $0x2000,%ax: VAPIC_ROM from here */
        0x66, 0xef,                 /* outw %ax,%dx */
        0xfe, 0xc3,                 /* inc %bl: what was there before */
        0x80, 0xe3, 0x3f,           /* andb $0x3f,%bl */
        0xe9, 0, 0, 0, 0,           /* jmp BOOT_PASS_END */
    };

    wait_for_serial("src_serial");
    put_le32(&code[2], VAPIC_ROM + 16);
    put_le32(&code[8], VAPIC_DONE);
    put_le32(&code[17], VAPIC_DONE);
    put_le32(&code[38], BOOT_PASS_END - VAPIC_CODE - (int)sizeof(code));
    put_le32(&jump[1], VAPIC_CODE - BOOT_PASS_END);
    qtest_memwrite(from, VAPIC_ROM + 2, &size, sizeof(size));
    qtest_memwrite(from, VAPIC_CODE, code, sizeof(code));

    qtest_qmp_assert_success(from, "{ 'execute': 'stop' }");
    qtest_memwrite(from, BOOT_PASS, jump, sizeof(jump));
    qtest_qmp_assert_success(from, "{ 'execute': 'cont' }");
    while (!qtest_readb(from, VAPIC_DONE)) {
        g_usleep(10000);
    }
    return NULL;
}

/* Its size is read when the destination loads the device, page or no page. */
static void test_vapic(void)
{
    MigrateCommon args = {
        .start.opts_target =
            "-global migration.x-postcopy-kvm-userfault-oracle=on",
        .start_hook = hook_start_vapic,
        .postcopy_kvm_userfault = true,
    };

    test_postcopy_common(&args);
}

static void hook_end_check_mode(QTestState *from, QTestState *to, void *opaque)
{
    migrate_check_kvm_userfault(to);
}

static void test_global_option(void)
{
    MigrateCommon args = {
        .start.opts_target = "-global migration.postcopy-kvm-userfault=on",
        .end_hook = hook_end_check_mode,
    };

    test_postcopy_common(&args);
}

/* --- Nothing is configured --- */

/* userfaultfd where it works, and KVM userfault where it does not */
static void hook_end_check_choice(QTestState *from, QTestState *to,
                                  void *opaque)
{
    g_autofree char *backend = migrate_query_fault_backend(to);

    g_assert_cmpstr(backend, ==, migration_get_env()->has_uffd ?
                    "userfaultfd" : "kvm-userfault");
    /* It says what was asked for, and that was neither. */
    g_assert_false(migrate_kvm_userfault_is_on(to));
}

static void test_automatic(void)
{
    MigrateCommon args = {
        .end_hook = hook_end_check_choice,
    };

    test_postcopy_common(&args);
}

static void test_automatic_recovery(void)
{
    MigrateCommon args = {
        .end_hook = hook_end_check_choice,
    };

    test_postcopy_recovery_common(&args);
}

/* --- What is chosen stays --- */

static void check_locked(QTestState *to, const char *cap, bool state)
{
    QDict *err = qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
        "  'capabilities': [ { 'capability': %s, 'state': %i } ] } }",
        cap, state);

    g_assert_nonnull(strstr(qdict_get_str(err, "desc"), cap));
    g_assert_nonnull(strstr(qdict_get_str(err, "desc"), "migrate-incoming"));
    qobject_unref(err);
}

static bool hook_change_capabilities(QTestState *from, QTestState *to)
{
    check_locked(to, "postcopy-kvm-userfault", false);
    check_locked(to, "postcopy-ram", false);
    check_locked(to, "postcopy-preempt", true);
    check_locked(to, "dirty-bitmaps", true);
    /* Setting what is set is harmless */
    migrate_set_capability(to, "postcopy-ram", true);
    return true;
}

/* While it runs, and while it is paused */
static void test_locked(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_change_capabilities,
    };

    test_postcopy_recovery_common(&args);
}

static void test_locked_running(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_change_capabilities,
    };

    test_postcopy_common(&args);
}

static void add_full(MigrationTestEnv *env)
{
    migration_test_add(PREFIX "preempt/recovery/plain", test_preempt_recovery);
    migration_test_add(PREFIX "recovery/double-failures/handshake",
                       test_recovery_fail_handshake);
    migration_test_add(PREFIX "recovery/double-failures/reconnect",
                       test_recovery_fail_reconnect);
    if (env->is_x86) {
        migration_test_add(PREFIX "suspend", test_suspend);
        migration_test_add(PREFIX "vapic", test_vapic);
    }
    migration_test_add(PREFIX "automatic/plain", test_automatic);
    migration_test_add(PREFIX "automatic/recovery", test_automatic_recovery);
    migration_test_add(PREFIX "limit", test_limit);
    migration_test_add(PREFIX "locked/paused", test_locked);
    migration_test_add(PREFIX "locked/running", test_locked_running);
    migration_test_add(PREFIX "option/global", test_global_option);
    add_tls();
    if (env->is_x86) {
        migration_test_add_postcopy_kvm_userfault_hugetlb(env);
    }
    migration_test_add_postcopy_kvm_userfault_around(env);
    migration_test_add_postcopy_kvm_userfault_kicks(env);
    migration_test_add_postcopy_kvm_userfault_failover(env);
    migration_test_add_postcopy_kvm_userfault_streams(env);
    migration_test_add_postcopy_kvm_userfault_waits(env);
}

void migration_test_add_postcopy_kvm_userfault(MigrationTestEnv *env)
{
    migration_test_add_postcopy_kvm_userfault_refusals(env);
    migration_test_add_postcopy_kvm_userfault_host(env);

    if (!env->has_kvm_userfault) {
        return;
    }

    migration_test_add(PREFIX "plain", test_plain);
    migration_test_add(PREFIX "recovery/plain", test_recovery);
    migration_test_add(PREFIX "preempt/plain", test_preempt);
    migration_test_add_postcopy_kvm_userfault_virtqueue(env);
    if (env->full_set) {
        add_full(env);
    }
}
