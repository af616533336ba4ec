/*
 * QTest testcases for what postcopy-kvm-userfault refuses
 *
 * A refusal is one sentence, comes before any RAM is touched and leaves the
 * source running.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/"

#define CAP "postcopy-kvm-userfault"

/* A destination that can't do it. */
typedef struct Refusal {
    const char *name;
    /* QEMU's options. */
    const char *opts;
    /* What KVM_CHECK_EXTENSION says of KVM_CAP_USERFAULT, if not the truth. */
    const char *extension;
    /* What the error must speak of. */
    const char *needle;
    /* A device of the host that not every user may open. */
    const char *node;
} Refusal;

static char *error_desc(QDict *err)
{
    char *desc = g_strdup(qdict_get_str(err, "desc"));

    qobject_unref(err);
    return desc;
}

static void check_error(QDict *err, const char *needle)
{
    g_autofree char *desc = error_desc(err);

    g_test_message("%s", desc);
    g_assert_nonnull(strstr(desc, needle));
    g_assert_null(strchr(desc, '\n'));
}

/* Sets a capability; returns the error, or NULL. */
static QDict *try_capability(QTestState *who, const char *cap, bool state)
{
    QDict *rsp = qtest_qmp(who, "{ 'execute': 'migrate-set-capabilities',"
                           "  'arguments': { 'capabilities': ["
                           "    { 'capability': %s, 'state': %i } ] } }",
                           cap, state);
    QDict *err = qdict_get_qdict(rsp, "error");

    if (err) {
        qobject_ref(err);
    }
    qobject_unref(rsp);
    return err;
}

static void check_refused_together(QTestState *to, const char *other,
                                   const char *needle)
{
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'migrate-set-capabilities',"
                    "  'arguments': { 'capabilities': ["
                    "    { 'capability': " "'" CAP "'" ", 'state': true },"
                    "    { 'capability': %s, 'state': true } ] } }", other),
                needle);
}

/* The first may be accepted on its own; the second may not. */
static void check_refused_in_order(QTestState *to, const char *first,
                                   const char *second, const char *needle)
{
    QDict *err = try_capability(to, first, true);

    if (!err) {
        err = try_capability(to, second, true);
        migrate_set_capability(to, first, false);
    }
    g_assert_nonnull(err);
    check_error(err, needle);
}

static void check_refused_with(QTestState *to, const char *other,
                               const char *needle)
{
    check_refused_together(to, other, needle);
    check_refused_in_order(to, CAP, other, needle);
    check_refused_in_order(to, other, CAP, needle);
}

static QTestState *start_destination(const char *opts, const char *extension)
{
    QTestState *to;

    if (extension) {
        kvm_userfault_preload("KVM_CAP_USERFAULT", extension);
    }
    to = qtest_initf("-machine q35 -nodefaults -m 32 -incoming defer %s", opts);
    kvm_userfault_preload_nothing();
    return to;
}

static void test_refusal(const void *opaque)
{
    const Refusal *refusal = opaque;
    QTestState *to = start_destination(refusal->opts, refusal->extension);

    check_refused_together(to, "postcopy-ram", refusal->needle);
    check_refused_in_order(to, CAP, "postcopy-ram", refusal->needle);
    check_refused_in_order(to, "postcopy-ram", CAP, refusal->needle);
    qtest_quit(to);
}

static const Refusal refusals[] = {
    { "tcg", "-accel tcg", NULL, "-accel kvm" },
    { "kernel-none", "-accel kvm", "0", "KVM_CAP_USERFAULT" },
    { "kernel-vcpu-only", "-accel kvm", "1", "KVM_USERFAULT_KERNEL" },
    { "device-ivshmem",
      "-accel kvm -object memory-backend-ram,id=m,size=1M,share=on "
      "-device ivshmem-plain,id=d,memdev=m", NULL, "device 'd'" },
    { "device-nvdimm",
      "-accel kvm -machine nvdimm=on -m 32,slots=1,maxmem=1G "
      "-object memory-backend-ram,id=m,size=128M "
      "-device nvdimm,id=d,memdev=m", NULL, "device 'd'" },
    { "device-virtio-mem",
      "-accel kvm -m 32,maxmem=1G "
      "-object memory-backend-ram,id=m,size=128M "
      "-device virtio-mem-pci,id=d,memdev=m", NULL, "device 'd'" },
    { "device-virtio-pmem",
      "-accel kvm -m 32,maxmem=1G "
      "-object memory-backend-ram,id=m,size=128M "
      "-device virtio-pmem-pci,id=d,memdev=m", NULL, "device 'd'" },
    { "device-vhost-vsock",
      "-accel kvm -device vhost-vsock-pci,id=d,guest-cid=3", NULL,
      "device 'd'", "/dev/vhost-vsock" },
    /* Nobody has listed it: what is refused is that it is vhost */
    { "device-vhost-unlisted",
      "-accel kvm -device vhost-testdev,id=d,node=/dev/vhost-net", NULL,
      "device 'd'", "/dev/vhost-net" },
    { "device-nvme-pmr",
      "-accel kvm -object memory-backend-ram,id=m,size=1M "
      "-device nvme,id=d,serial=s,pmrdev=m", NULL, "device 'd'" },
    { "device-acpi-erst",
      "-accel kvm -object memory-backend-ram,id=m,size=1M,share=on "
      "-device acpi-erst,id=d,memdev=m", NULL, "device 'd'" },
    { "device-vhostforce",
      "-accel kvm -netdev tap,id=n,script=no,downscript=no,vhostforce=on "
      "-device virtio-net-pci,netdev=n", NULL, "network backend 'n'",
      "/dev/vhost-net" },
};

static const Refusal refusal_base_kernel = {
    "kernel-base", "-accel kvm", NULL, "KVM_CAP_USERFAULT"
};

static void test_start_up(void)
{
    kvm_userfault_preload("KVM_CAP_USERFAULT", "1");
    qtest_check_does_not_start("-accel kvm,userfault=on",
                               "KVM_USERFAULT_KERNEL");
    qtest_check_does_not_start("-accel kvm "
                               "-global migration.postcopy-kvm-userfault=on",
                               "KVM_USERFAULT_KERNEL");
    kvm_userfault_preload_nothing();
    qtest_check_does_not_start("-accel tcg "
                               "-global migration.postcopy-kvm-userfault=on",
                               "-accel kvm");
}

static void test_background_snapshot(void)
{
    QTestState *to = start_destination("-accel kvm", NULL);

    check_refused_with(to, "background-snapshot", CAP);
    qtest_quit(to);
}

#ifdef CONFIG_REPLICATION
static void test_colo(void)
{
    QTestState *to = start_destination("-accel kvm", NULL);

    check_refused_with(to, "x-colo", CAP);
    qtest_quit(to);
}
#endif

#ifdef CONFIG_RDMA
static void test_rdma(void)
{
    QTestState *to = start_destination("-accel kvm", NULL);

    migrate_set_capability(to, CAP, true);
    migrate_set_capability(to, "postcopy-ram", true);
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'migrate-incoming',"
                    "  'arguments': { 'uri': 'rdma:127.0.0.1:0' } }"),
                "RDMA");
    qtest_quit(to);
}
#endif

/* It needs postcopy-ram, but does not mind which is set first. */
static void test_order(void)
{
    QTestState *to = start_destination("-accel kvm", NULL);

    migrate_set_capability(to, CAP, true);
    migrate_set_capability(to, "postcopy-ram", true);
    migrate_set_capability(to, "postcopy-ram", false);
    migrate_set_capability(to, CAP, false);
    migrate_set_capability(to, "postcopy-ram", true);
    migrate_set_capability(to, CAP, true);
    qtest_quit(to);
}

/* Where neither works, the one error has both reasons. */
static void test_neither(const void *opaque)
{
    const char *opts = opaque;
    QTestState *to = start_destination(opts, "0");
    g_autofree char *desc = NULL;
    QDict *err = try_capability(to, "postcopy-ram", true);

    g_assert_nonnull(err);
    desc = error_desc(err);
    g_test_message("%s", desc);
    g_assert_nonnull(strstr(desc, "Userfaultfd not available"));
    g_assert_nonnull(strstr(desc, strstr(opts, "off") ? "userfault=off" :
                                                       "KVM_CAP_USERFAULT"));
    qtest_quit(to);
}

static void *hook_start_source_only(QTestState *from, QTestState *to)
{
    migrate_set_capability(from, CAP, true);
    return NULL;
}

static void *hook_start_destination_only(QTestState *from, QTestState *to)
{
    migrate_set_capability(to, CAP, true);
    return NULL;
}

static void hook_end_check_unused(QTestState *from, QTestState *to,
                                  void *opaque)
{
    g_autofree char *backend = migrate_query_fault_backend(to);

    g_assert_cmpstr(backend, !=, "kvm-userfault");
}

static void test_source_only(void)
{
    MigrateCommon args = {
        .start_hook = hook_start_source_only,
        .end_hook = hook_end_check_unused,
    };

    test_postcopy_common(&args);
}

static void test_precopy_source_only(void)
{
    MigrateCommon args = {
        .listen_uri = "tcp:127.0.0.1:0",
        .start_hook = hook_start_source_only,
        .end_hook = hook_end_check_unused,
    };

    test_precopy_common(&args);
}

static void test_precopy_destination_only(void)
{
    MigrateCommon args = {
        .listen_uri = "tcp:127.0.0.1:0",
        .start_hook = hook_start_destination_only,
        .end_hook = hook_end_check_unused,
    };

    test_precopy_common(&args);
}

/* Starts a migration to a VM that a refused device can be plugged into. */
static int start_migration(QTestState **from, QTestState **to,
                           bool hide_stderr)
{
    const char *opts = "-device pcie-root-port,id=slot0 "
                       "-object memory-backend-ram,id=m,size=1M,share=on";
    MigrateStart args = {
        .hide_stderr = hide_stderr,
        .opts_source = opts,
        .opts_target = opts,
    };

    if (migrate_start(from, to, "defer", &args)) {
        return -1;
    }

    migrate_set_capability(*to, CAP, true);
    migrate_set_capability(*to, "postcopy-ram", true);
    migrate_set_capability(*to, "postcopy-blocktime", true);
    migrate_set_capability(*from, "postcopy-ram", true);
    migrate_ensure_non_converge(*from);
    migrate_prepare_for_dirty_mem(*from);
    migrate_incoming_qmp(*to, "tcp:127.0.0.1:0", NULL, "{}");
    wait_for_serial("src_serial");
    return 0;
}

static QDict *try_plug(QTestState *to)
{
    QDict *rsp = qtest_qmp(to, "{ 'execute': 'device_add',"
                           "  'arguments': { 'driver': 'ivshmem-plain',"
                           "    'id': 'd', 'memdev': 'm', 'bus': 'slot0' } }");
    QDict *err = qdict_get_qdict(rsp, "error");

    if (err) {
        qobject_ref(err);
    }
    qobject_unref(rsp);
    return err;
}

/* Who registers when it is plugged, as the first is refused by its class. */
static void check_vhost_refused(QTestState *to)
{
    if (access("/dev/vhost-net", R_OK | W_OK)) {
        return;
    }
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'vhost-testdev', 'id': 'd', 'bus': 'slot0',"
                    "  'node': '/dev/vhost-net' } }"), "device 'd'");
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'netdev_add', 'arguments': {"
                    "  'type': 'tap', 'id': 'n', 'script': 'no',"
                    "  'downscript': 'no', 'vhostforce': true } }"),
                "network backend 'n'");
}

static void check_plug_refused(QTestState *to)
{
    check_error(try_plug(to), "device 'd'");
    check_vhost_refused(to);
}

/* It was fine when the capability was set, and is not when they come to it. */
static void test_plugged_before(void)
{
    QTestState *from, *to;

    if (start_migration(&from, &to, true)) {
        return;
    }
    g_assert_null(try_plug(to));

    qtest_set_expected_status(to, EXIT_FAILURE);
    migrate_qmp(from, to, NULL, NULL, "{}");
    wait_for_migration_fail(from, true);
    migrate_end(from, to, false);
}

/*
 * With nothing but dirty bitmaps to send later there is no memory to wait for,
 * whatever the capability says.
 */
static void test_dirty_bitmaps(void)
{
    QTestState *from, *to;

    if (start_migration(&from, &to, false)) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        migrate_set_capability(i ? from : to, "postcopy-ram", false);
        migrate_set_capability(i ? from : to, "dirty-bitmaps", true);
    }
    migrate_qmp(from, to, NULL, NULL, "{}");
    migrate_wait_for_dirty_mem(from, to);
    /* Refused while memory may be missing */
    qtest_qmp_assert_success(to, "{ 'execute': 'object-del',"
                             "  'arguments': { 'id': 'm' } }");

    migrate_ensure_converge(from);
    migrate_postcopy_start(from, to, get_src());
    wait_for_migration_complete(from);
    wait_for_migration_complete(to);
    g_assert_null(migrate_query_fault_backend(to));
    wait_for_serial("dest_serial");
    migrate_end(from, to, true);
}

static void check_hmp(QTestState *to, const char *command, const char *needle)
{
    g_autofree char *said = qtest_hmp(to, "%s", command);

    g_test_message("%s", said);
    g_assert_nonnull(strstr(said, needle));
}

static void check_refused_in_precopy(QTestState *to)
{
    check_error(try_capability(to, CAP, false), "can't be changed");
    check_plug_refused(to);
    check_hmp(to, "device_add ivshmem-plain,id=d,memdev=m,bus=slot0",
              "device 'd'");
}

static void check_refused_in_postcopy(QTestState *to)
{
    check_error(try_capability(to, CAP, false), "can't be changed");
    check_plug_refused(to);
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'migrate', 'arguments': {"
                    "  'uri': 'tcp:127.0.0.1:1' } }"), "migrate");
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'dump-guest-memory', 'arguments': {"
                    "  'paging': false, 'protocol': 'file:/dev/null' } }"),
                "dump-guest-memory");
    check_error(qtest_qmp_assert_failure_ref(
                    to, "{ 'execute': 'calc-dirty-rate', 'arguments': {"
                    "  'calc-time': 1 } }"), "calc-dirty-rate");
    check_hmp(to, "device_add ivshmem-plain,id=d,memdev=m,bus=slot0",
              "device 'd'");
    check_hmp(to, "gpa2hpa 0x100000", "gpa2hpa is not possible");
}

/* From the announcement of postcopy on, what does not fit is refused. */
static void test_late(void)
{
    QTestState *from, *to;

    if (start_migration(&from, &to, false)) {
        return;
    }
    migrate_qmp(from, to, NULL, NULL, "{}");
    migrate_wait_for_dirty_mem(from, to);
    check_refused_in_precopy(to);

    /* Slow enough for pages to be missing when the commands come. */
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 4096);
    migrate_postcopy_start(from, to, get_src());
    check_refused_in_postcopy(to);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    wait_for_migration_complete(from);
    wait_for_serial("dest_serial");
    migrate_check_kvm_userfault(to);
    migrate_end(from, to, true);
}

static void add_refusal(const Refusal *refusal)
{
    g_autofree char *path = g_strconcat(PREFIX "refusals/", refusal->name,
                                        NULL);

    qtest_add_data_func(path, refusal, test_refusal);
}

static void add_unsupported(MigrationTestEnv *env)
{
    if (env->has_kvm) {
        add_refusal(&refusal_base_kernel);
    }
}

static void add_supported(MigrationTestEnv *env)
{
    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        if (!refusals[i].node || !access(refusals[i].node, R_OK | W_OK)) {
            add_refusal(&refusals[i]);
        }
    }
#ifdef CONFIG_REPLICATION
    migration_test_add(PREFIX "refusals/x-colo", test_colo);
#endif
#ifdef CONFIG_RDMA
    migration_test_add(PREFIX "refusals/rdma", test_rdma);
#endif
    if (env->has_uffd) {
        migration_test_add(PREFIX "refusals/background-snapshot",
                           test_background_snapshot);
    }
    migration_test_add(PREFIX "refusals/start-up", test_start_up);
    migration_test_add(PREFIX "refusals/order", test_order);
    if (!env->has_uffd) {
        qtest_add_data_func(PREFIX "refusals/neither", "-accel kvm",
                            test_neither);
        qtest_add_data_func(PREFIX "refusals/neither-off",
                            "-accel kvm,userfault=off", test_neither);
    }
}

static void add_migrations(MigrationTestEnv *env)
{
    migration_test_add(PREFIX "refusals/plugged-before", test_plugged_before);
    migration_test_add(PREFIX "refusals/late", test_late);
    migration_test_add(PREFIX "unused/precopy-source-only",
                       test_precopy_source_only);
    migration_test_add(PREFIX "unused/precopy-destination-only",
                       test_precopy_destination_only);
    migration_test_add(PREFIX "unused/dirty-bitmaps", test_dirty_bitmaps);
    if (env->has_uffd) {
        migration_test_add(PREFIX "unused/source-only", test_source_only);
    }
}

void migration_test_add_postcopy_kvm_userfault_refusals(MigrationTestEnv *env)
{
    if (!env->has_kvm_userfault) {
        add_unsupported(env);
        return;
    }
    add_supported(env);
    add_migrations(env);
}
