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
    g_assert(migrate_kvm_userfault_is_on(to) == g_str_equal(setting, "on"));
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
    g_assert(!migrate_kvm_userfault_is_on(to));
    qtest_quit(to);
}

/* A kernel that says more of an access than QEMU knows of. */
static void test_more_flags(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
    };
    /* One that nobody has thought of yet, and that of private memory. */
    g_autofree char *flags = g_strdup_printf("%llu", 1ULL << 62 | 1ULL << 3);

    kvm_userfault_preload("KVM_MEMORY_FAULT_FLAGS", flags);
    test_postcopy_common(&args);
    kvm_userfault_preload_nothing();
}

/* --- Refused while precopy comes in --- */

/*
 * A stream that stops in its first section of RAM, without the configuration:
 * the coroutine that loads it waits for more with the RCU read lock held.
 */
static const char ram_stream[] =
    "QEVM" "\0\0\0\3"
    "\1" "\0\0\0\1" "\3ram" "\0\0\0\0" "\0\0\0\4"
    "\0\0";

static int start_ram_stream(QTestState *to)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_assert_cmpint(write(fds[0], ram_stream, sizeof(ram_stream) - 1), ==,
                    sizeof(ram_stream) - 1);
    qtest_qmp_fds_assert_success(to, &fds[1], 1, "{ 'execute': 'getfd',"
                                 "  'arguments': { 'fdname': 'stream' } }");
    close(fds[1]);
    migrate_incoming_qmp(to, "fd:stream", NULL, "{}");
    wait_for_migration_status(to, "active", NULL);
    return fds[0];
}

/* As any QEMU may be told, with postcopy or without. */
static void test_device_add_refused(void)
{
    QTestState *to = qtest_init("-accel tcg -machine q35 -nodefaults -m 32 "
                                "-device pcie-root-port,id=slot0 "
                                "-global migration.send-configuration=off "
                                "-incoming defer");
    g_autofree char *said = NULL;
    int stream = start_ram_stream(to);

    said = qtest_hmp(to, "device_add pci-testdev,id=d,bus=slot0,addr=99");
    g_test_message("%s", said);
    g_assert_nonnull(strstr(said, "Error"));
    qobject_unref(qtest_qmp_assert_failure_ref(
        to, "{ 'execute': 'device_add', 'arguments': {"
        "  'driver': 'pci-testdev', 'bus': 'slot0', 'addr': '99' } }"));

    qtest_set_expected_status(to, EXIT_FAILURE);
    close(stream);
    qtest_wait_qemu(to);
    qtest_quit(to);
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
