/*
 * QTest testcases for -accel kvm,userfault=, and for hosts that are not what
 * they claim to be
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/"

#define CAP "postcopy-kvm-userfault"

/* --- Option --- */

static bool capability_is_on(QTestState *who)
{
    QDict *rsp = qtest_qmp(who, "{ 'execute': 'query-migrate-capabilities' }");
    const QListEntry *entry;
    bool on = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *cap = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(cap, "capability"), CAP)) {
            on = qdict_get_bool(cap, "state");
        }
    }
    qobject_unref(rsp);
    return on;
}

static void check_setting(const char *accel, const char *setting)
{
    QTestState *to = qtest_initf("%s -machine q35 -nodefaults -m 32 "
                                 "-incoming defer", accel);
    QDict *info = qtest_qmp_assert_success_ref(to,
                                               "{ 'execute': 'query-kvm' }");
    g_autofree char *text = qtest_hmp(to, "info kvm");
    g_autofree char *printed = g_strdup_printf("(userfault=%s)", setting);

    g_assert_cmpstr(qdict_get_str(info, "userfault-setting"), ==, setting);
    g_assert_nonnull(strstr(text, printed));
    qobject_unref(info);
    g_assert(capability_is_on(to) == g_str_equal(setting, "on"));
    qtest_quit(to);
}

static void test_option(void)
{
    check_setting("-accel kvm", "auto");
    check_setting("-accel kvm,userfault=auto", "auto");
    check_setting("-accel kvm,userfault=off", "off");
    check_setting("-accel kvm,userfault=on", "on");
    check_setting("-accel kvm,userfault=on -accel tcg", "on");
}

/* It does what the capability does. */
static void test_option_on(void)
{
    QTestState *to = qtest_init("-accel kvm,userfault=on -machine q35 "
                                "-nodefaults -m 32 -incoming defer");

    migrate_set_capability(to, "postcopy-ram", true);
    qtest_quit(to);
}

/* Nobody is the wiser from a QEMU that takes another accelerator. */
static void test_option_fallback(void)
{
    const char *needle = "userfault=on needs KVM, and the accelerator is 'tcg'";

    qtest_check_does_not_start("-accel kvm,device=/nonexistent,userfault=on "
                               "-accel tcg", needle);
    qtest_check_does_not_start("-accel tcg -accel kvm,userfault=on", needle);
    check_setting("-accel tcg -accel kvm,userfault=auto", "auto");
    check_setting("-accel kvm,device=/nonexistent,userfault=off -accel tcg",
                  "auto");
}

static void test_option_bad_value(void)
{
    qtest_check_does_not_start("-accel kvm,userfault=maybe -accel tcg",
                               "'userfault' does not accept value 'maybe'");
}

/* Of a list, too, it is KVM or nothing. */
static void test_option_unsupported(void)
{
    kvm_userfault_preload("KVM_CAP_USERFAULT", "0");
    qtest_check_does_not_start("-accel kvm,userfault=on -accel tcg",
                               "KVM_CAP_USERFAULT");
    kvm_userfault_preload("KVM_CAP_USERFAULT", "1");
    qtest_check_does_not_start("-accel kvm,userfault=on -accel tcg",
                               "KVM_USERFAULT_KERNEL");
    kvm_userfault_preload_nothing();
}

/* --- Hosts --- */

/* A kernel that claims to do it, and takes no slot with the flag. */
static void test_claims_only(void)
{
    QTestState *to;
    QDict *err;

    kvm_userfault_preload("KVM_REFUSE_USERFAULT", "1");
    to = qtest_init("-accel kvm -machine q35 -nodefaults -m 32 "
                    "-incoming defer");
    qtest_check_does_not_start("-accel kvm,userfault=on -accel tcg",
                               "refuses to mark");
    kvm_userfault_preload_nothing();

    err = qtest_qmp_assert_failure_ref(
        to, "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
        "  'capabilities': [ { 'capability': %s, 'state': true } ] } }", CAP);
    g_test_message("%s", qdict_get_str(err, "desc"));
    g_assert_nonnull(strstr(qdict_get_str(err, "desc"), "Invalid argument"));
    qobject_unref(err);
    g_assert(!capability_is_on(to));
    qtest_quit(to);
}

/* A kernel that says more of an access than QEMU knows of. */
static void test_more_flags(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
    };

    kvm_userfault_preload("KVM_MEMORY_FAULT_FLAGS", "0x8000000000000008");
    test_postcopy_common(&args);
    kvm_userfault_preload_nothing();
}

/* --- Refused while precopy comes in --- */

/* As any QEMU may be told, with postcopy or without. */
static void test_device_add_refused(void)
{
    MigrateStart args = {
        .opts_target = "-device pcie-root-port,id=slot0",
    };
    g_autofree char *said = NULL;
    QTestState *from, *to;

    if (migrate_start(&from, &to, "defer", &args)) {
        return;
    }
    migrate_ensure_non_converge(from);
    migrate_prepare_for_dirty_mem(from);
    migrate_incoming_qmp(to, "tcp:127.0.0.1:0", NULL, "{}");
    wait_for_serial("src_serial");
    migrate_qmp(from, to, NULL, NULL, "{}");
    migrate_wait_for_dirty_mem(from, to);

    qtest_qmp_assert_success(to, "{ 'execute': 'query-status' }");
    said = qtest_hmp(to, "device_add pci-testdev,id=d,bus=slot0,addr=99");
    g_test_message("%s", said);
    g_assert_nonnull(strstr(said, "Error"));
    qobject_unref(qtest_qmp_assert_failure_ref(
        to, "{ 'execute': 'device_add', 'arguments': {"
        "  'driver': 'pci-testdev', 'bus': 'slot0', 'addr': '99' } }"));

    migrate_ensure_converge(from);
    wait_for_migration_complete(from);
    wait_for_serial("dest_serial");
    migrate_end(from, to, true);
}

void migration_test_add_postcopy_kvm_userfault_host(MigrationTestEnv *env)
{
    if (env->is_x86 && env->has_tcg) {
        migration_test_add(PREFIX "option/fallback", test_option_fallback);
        migration_test_add(PREFIX "option/bad-value", test_option_bad_value);
        migration_test_add(PREFIX "unused/device-add-refused",
                           test_device_add_refused);
    }
    if (!env->has_kvm_userfault) {
        return;
    }
    migration_test_add(PREFIX "option/accel", test_option);
    migration_test_add(PREFIX "option/accel-on", test_option_on);
    migration_test_add(PREFIX "option/unsupported", test_option_unsupported);
    migration_test_add(PREFIX "host/claims-only", test_claims_only);
    if (env->full_set) {
        migration_test_add(PREFIX "host/more-flags", test_more_flags);
    }
}
