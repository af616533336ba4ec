/*
 * QTest helpers for postcopy with KVM userfault
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
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

void kvm_userfault_preload(const char *variable, const char *value)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self);
    g_autofree char *lib = g_build_filename(dir, "kvm-check-extension.so",
                                            NULL);

    g_assert(g_file_test(lib, G_FILE_TEST_EXISTS));
    g_setenv(variable, value, true);
    g_setenv("LD_PRELOAD", lib, true);
}

void kvm_userfault_preload_nothing(void)
{
    g_unsetenv("LD_PRELOAD");
    g_unsetenv("KVM_CAP_USERFAULT");
    g_unsetenv("KVM_REFUSE_USERFAULT");
    g_unsetenv("KVM_MEMORY_FAULT_FLAGS");
}

void qtest_check_does_not_start(const char *opts, const char *needle)
{
    g_autofree char *command = g_strdup_printf(
        "timeout 60 %s -machine q35 -nodefaults -m 32 -display none -S "
        "-incoming defer %s", getenv("QTEST_QEMU_BINARY"), opts);
    g_autofree char *errors = NULL;
    int status;

    g_assert(g_spawn_command_line_sync(command, NULL, &errors, &status, NULL));
    g_test_message("%s", errors);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
    g_assert_nonnull(strstr(errors, needle));
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

bool migrate_kvm_userfault_is_on(QTestState *who)
{
    QDict *rsp = qtest_qmp(who, "{ 'execute': 'query-migrate-capabilities' }");
    const QListEntry *entry;
    bool on = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *cap = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(cap, "capability"),
                        "postcopy-kvm-userfault")) {
            on = qdict_get_bool(cap, "state");
        }
    }
    qobject_unref(rsp);
    return on;
}

void *migrate_hook_start_slow_postcopy(QTestState *from, QTestState *to)
{
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 4096);
    return NULL;
}

static GThread *reader;
static bool reader_stop;

void main_loop_reads(QTestState *to)
{
    for (uint64_t addr = GUEST_START; addr < GUEST_END; addr += GUEST_PAGE) {
        if (qatomic_read(&reader_stop)) {
            break;
        }
        qtest_readb(to, addr);
    }
}

static void *read_memory(void *opaque)
{
    main_loop_reads(opaque);
    return NULL;
}

void main_loop_reads_start(QTestState *to)
{
    reader = g_thread_new("reader", read_memory, to);
}

void main_loop_reads_stop(void)
{
    if (!reader) {
        return;
    }
    qatomic_set(&reader_stop, true);
    g_thread_join(reader);
    reader = NULL;
    reader_stop = false;
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
