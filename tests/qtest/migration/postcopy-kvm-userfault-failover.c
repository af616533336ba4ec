/*
 * QTest testcases for postcopy migration with KVM userfault: the primary of a
 * failover pair
 *
 * The guest of these tests does not run.  What its driver would do is done by
 * qtest.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "qobject/qdict.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"
#include "standard-headers/linux/virtio_net.h"

#define PREFIX "/migration/postcopy-kvm-userfault/"

#define STANDBY_SLOT 4

/* Memory that takes a while to be sent */
#define FILL_START (1024 * 1024)
#define FILL_SIZE  (24 * 1024 * 1024)

/* What the source and the destination have in common */
#define MACHINE \
    "-machine q35 -accel kvm -nodefaults -m 32 -S " \
    "-device pcie-root-port,id=slot0,addr=3,chassis=1 " \
    "-device virtio-net-pci,id=standby0,addr=4,failover=on "

/* It is refused while pages are missing, as a device of the host's is */
#define PRIMARY \
    "-device vhost-testdev,id=primary0,bus=slot0,failover_pair_id=standby0," \
    "node=/dev/vhost-net "

/* The guest's driver takes the standby device, and so wants the primary. */
static void drive_standby(QTestState *who)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(STANDBY_SLOT, 0) };
    QGuestAllocator alloc;
    QVirtioPCIDevice *dev;
    QPCIBus *bus;

    pc_alloc_init(&alloc, who, 0);
    bus = qpci_new_pc(who, &alloc);
    dev = virtio_pci_new(bus, &addr);
    g_assert_nonnull(dev);

    qvirtio_pci_device_enable(dev);
    qvirtio_start_device(&dev->vdev);
    g_assert_true(qvirtio_get_features(&dev->vdev) &
                  (1ull << VIRTIO_NET_F_STANDBY));
    qvirtio_set_features(&dev->vdev, (1ull << VIRTIO_NET_F_STANDBY) |
                                     (1ull << VIRTIO_F_VERSION_1));
    qvirtio_set_driver_ok(&dev->vdev);

    qos_object_destroy((QOSGraphObject *)dev);
    qpci_free_pc(bus);
    alloc_destroy(&alloc);
}

static bool primary_is_there(QTestState *who)
{
    QDict *rsp = qtest_qmp(who, "{ 'execute': 'qom-get', 'arguments': {"
                           "  'path': '/machine/peripheral/primary0',"
                           "  'property': 'realized' } }");
    bool there = qdict_haskey(rsp, "return") && qdict_get_bool(rsp, "return");

    qobject_unref(rsp);
    return there;
}

static void wait_for_primary(QTestState *who)
{
    for (int i = 0; i < 100 && !primary_is_there(who); i++) {
        g_usleep(100 * 1000);
    }
    g_assert_true(primary_is_there(who));
}

static void start_postcopy(QTestState *from, QTestState *to)
{
    migrate_set_capability(to, "postcopy-kvm-userfault", true);
    migrate_set_capability(to, "postcopy-ram", true);
    migrate_set_capability(to, "postcopy-blocktime", true);
    migrate_set_capability(from, "postcopy-ram", true);
    migrate_ensure_non_converge(from);
    /* Slow enough for pages to be missing when the device is loaded */
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 4096);

    migrate_incoming_qmp(to, "tcp:127.0.0.1:0", NULL, "{}");
    migrate_qmp(from, to, NULL, NULL, "{}");
    wait_for_migration_status(from, "active",
                              (const char * []) { "failed", NULL });
    qtest_qmp_assert_success(from, "{ 'execute': 'migrate-start-postcopy' }");
}

/* Device state has been loaded when the VM could run. */
static void wait_until_loaded(QTestState *to)
{
    bool loaded;

    do {
        QDict *rsp = qtest_qmp_assert_success_ref(
            to, "{ 'execute': 'query-status' }");

        loaded = !g_str_equal(qdict_get_str(rsp, "status"), "inmigrate");
        qobject_unref(rsp);
        g_usleep(10 * 1000);
    } while (!loaded);
}

/* The primary can't be there during postcopy, and is there after it. */
static void test_primary(void)
{
    QTestState *from = qtest_init(MACHINE);
    QTestState *to = qtest_init(MACHINE PRIMARY "-incoming defer");

    drive_standby(from);
    qtest_memset(from, FILL_START, 0xa5, FILL_SIZE);

    start_postcopy(from, to);
    wait_until_loaded(to);
    g_assert_false(primary_is_there(to));

    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    wait_for_migration_complete(from);
    wait_for_primary(to);
    migrate_check_kvm_userfault(to);

    qtest_quit(from);
    qtest_quit(to);
}

/* Nor while postcopy may still come.  If it does not, nothing says so. */
static void test_primary_precopy(void)
{
    QTestState *from = qtest_init(MACHINE);
    QTestState *to = qtest_init(MACHINE PRIMARY "-incoming defer");

    drive_standby(from);
    migrate_set_capability(to, "postcopy-kvm-userfault", true);
    migrate_set_capability(to, "postcopy-ram", true);
    migrate_set_capability(from, "postcopy-ram", true);
    migrate_incoming_qmp(to, "tcp:127.0.0.1:0", NULL, "{}");
    migrate_qmp(from, to, NULL, NULL, "{}");
    wait_for_migration_complete(from);
    wait_for_primary(to);

    qtest_quit(from);
    qtest_quit(to);
}

void migration_test_add_postcopy_kvm_userfault_failover(MigrationTestEnv *env)
{
    if (!env->has_kvm_userfault || access("/dev/vhost-net", R_OK | W_OK)) {
        return;
    }
    migration_test_add(PREFIX "failover/primary", test_primary);
    migration_test_add(PREFIX "failover/primary-precopy",
                       test_primary_precopy);
}
