/*
 * QTest helpers for postcopy with KVM userfault
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"

#ifdef CONFIG_LINUX
#include <sys/ioctl.h>
#include "linux/kvm.h"
#endif

bool kvm_userfault_supported(void)
{
#ifdef CONFIG_LINUX
    const int needed = KVM_USERFAULT_VCPU | KVM_USERFAULT_KERNEL;
    int ret, fd = open("/dev/kvm", O_RDWR);

    if (fd < 0) {
        return false;
    }

    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_USERFAULT);
    close(fd);
    return ret > 0 && (ret & needed) == needed;
#else
    return false;
#endif
}

static void check_uses_kvm(QTestState *who)
{
    QDict *info = qtest_qmp_assert_success_ref(who,
                                               "{ 'execute': 'query-kvm' }");

    g_assert(qdict_get_bool(info, "enabled"));
    qobject_unref(info);
}

char *migrate_query_fault_backend(QTestState *to)
{
    QDict *info = migrate_query_not_failed(to);
    QDict *fault = qdict_get_qdict(info, "postcopy-fault");
    char *backend = NULL;

    if (fault) {
        backend = g_strdup(qdict_get_str(fault, "backend"));
    }
    qobject_unref(info);
    return backend;
}

uint64_t migrate_query_kvm_userfault(QTestState *to, const char *count)
{
    QDict *info = migrate_query_not_failed(to);
    QDict *fault = qdict_get_qdict(info, "postcopy-fault");
    uint64_t value = qdict_get_int(qdict_get_qdict(fault, "kvm-userfault"),
                                   count);

    qobject_unref(info);
    return value;
}

void migrate_check_kvm_userfault(QTestState *to)
{
    g_autofree char *backend = NULL;

    wait_for_migration_complete(to);
    check_uses_kvm(to);
    /* What upstream reads only where userfaultfd tells threads apart. */
    read_blocktime(to);

    backend = migrate_query_fault_backend(to);
    g_assert_cmpstr(backend, ==, "kvm-userfault");
}
