/*
 * QTest testcases for postcopy migration with KVM userfault: what happens to a
 * VM while its pages are missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/sockets.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/"

/* Where pc and q35 keep PCI's configuration ports, and q35 its PAM registers */
#define PCI_ADDRESS 0xcf8
#define PCI_DATA    0xcfc
#define Q35_PAM     0x90
#define Q35_NR_PAM  7

/* SeaBIOS, at the end of the first 4 GB */
#define BIOS_SIZE   (256 * 1024)
#define BIOS_ADDR   (0x100000000ull - BIOS_SIZE)

/* --- The network is down, a vCPU waits: everything that kicks it --- */

static void stop_and_cont(QTestState *to)
{
    for (int i = 0; i < 20; i++) {
        qtest_qmp_assert_success(to, "{ 'execute': 'stop' }");
        qtest_qmp_assert_success(to, "{ 'execute': 'query-cpus-fast' }");
        qtest_qmp_assert_success(to, "{ 'execute': 'cont' }");
    }
}

static void look_at_registers(QTestState *to)
{
    for (int i = 0; i < 20; i++) {
        g_autofree char *regs = qtest_hmp(to, "info registers -a");

        g_assert_nonnull(strstr(regs, "EIP="));
    }
}

/* One packet of the remote protocol; the answer has to begin with @expect. */
static void gdb_ask(int fd, const char *packet, const char *expect)
{
    char answer[4096] = "";
    size_t len = 0;

    g_assert_cmpint(send(fd, packet, strlen(packet), 0), ==, strlen(packet));
    /* An acknowledgement, then the packet with its checksum */
    while (!(strchr(answer, '#') && strlen(strchr(answer, '#')) >= 3)) {
        ssize_t n = recv(fd, answer + len, sizeof(answer) - len - 1, 0);

        g_assert_cmpint(n, >, 0);
        len += n;
    }
    g_assert_nonnull(strstr(answer, expect));
    g_assert_cmpint(send(fd, "+", 1, 0), ==, 1);
}

static void debug_with_gdb(QTestState *to)
{
    g_autofree char *path = g_strdup_printf("%s/gdb",
                                            migration_get_env()->tmpfs);
    g_autofree char *started = qtest_hmp(to, "gdbserver unix:%s,server=on,"
                                         "wait=off", path);
    int fd = unix_connect(path, &error_abort);

    gdb_ask(fd, "$?#3f", "$T");
    gdb_ask(fd, "$g#67", "$");
    /* Memory: it might have to wait */
    gdb_ask(fd, "$m0,10#2a", "$E14");
    gdb_ask(fd, "$M0,1:00#74", "$E14");
    gdb_ask(fd, "$Z0,7c00,1#0d", "$E22");
    gdb_ask(fd, "$D#44", "$OK");
    close(fd);
}

static void assert_refused(QTestState *to, const char *what, QDict *error)
{
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), what));
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "wait until"));
    qobject_unref(error);
}

static void try_what_needs_all_memory(QTestState *to)
{
    g_autofree char *savevm = qtest_hmp(to, "savevm snapshot");

    g_assert_nonnull(strstr(savevm, "wait until"));
    assert_refused(to, "dump-guest-memory", qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'dump-guest-memory', 'arguments': {"
        "  'paging': false, 'protocol': 'file:/dev/null' } }"));
    assert_refused(to, "migrate", qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'migrate', 'arguments': {"
        "  'uri': 'exec:cat>/dev/null' } }"));
}

/* With the link down they would wait, and nothing be answered behind them */
static void try_what_reads_memory(QTestState *to)
{
    const char *commands[] = {
        "x /1 0x100000", "xp /1 0x100000", "sum 0x100000 4096",
        "gva2gpa 0x100000", "info tlb", "info mem",
    };

    for (int i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *answer = qtest_hmp(to, "%s", commands[i]);

        g_assert_nonnull(strstr(answer, "wait until"));
    }
    assert_refused(to, "memsave", qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'memsave', 'arguments': {"
        "  'val': 1048576, 'size': 4096, 'filename': '/dev/null' } }"));
    assert_refused(to, "pmemsave", qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'pmemsave', 'arguments': {"
        "  'val': 1048576, 'size': 4096, 'filename': '/dev/null' } }"));
    assert_refused(to, "x-query-virtio-queue-element",
                   qtest_qmp_assert_failure_ref(to,
        "{ 'execute': 'x-query-virtio-queue-element', 'arguments': {"
        "  'path': '/machine', 'queue': 0 } }"));
}

static bool hook_kicks(QTestState *from, QTestState *to)
{
    stop_and_cont(to);
    look_at_registers(to);
    debug_with_gdb(to);
    try_what_needs_all_memory(to);
    try_what_reads_memory(to);
    return true;
}

static void test_kicks(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_kicks,
    };

    test_postcopy_recovery_common(&args);
}

static bool hook_quit(QTestState *from, QTestState *to)
{
    /* Fails if it does not end */
    qtest_qmp_assert_success(to, "{ 'execute': 'quit' }");
    qtest_wait_qemu(to);
    return false;
}

static void test_quit(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_quit,
    };

    test_postcopy_recovery_common(&args);
}

/* --- The main loop waits for a page, with the BQL held --- */

static bool hook_start_reader(QTestState *from, QTestState *to)
{
    main_loop_reads_start(to);
    g_usleep(3 * G_USEC_PER_SEC);
    return true;
}

static void hook_end_reader(QTestState *from, QTestState *to, void *opaque)
{
    main_loop_reads_stop();
    g_assert_cmpint(migrate_query_kvm_userfault(to, "ram-waits"), >, 0);
}

/* What recovers the migration comes out of band. */
static void test_main_loop_waits(void)
{
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_start_reader,
        .end_hook = hook_end_reader,
    };

    test_postcopy_recovery_common(&args);
}

/* --- Memslots change while vCPUs run and pages arrive --- */

static uint8_t pam_read(QTestState *to, int reg)
{
    qtest_outl(to, PCI_ADDRESS, 0x80000000 | ((Q35_PAM + reg) & ~3));
    return qtest_inb(to, PCI_DATA + ((Q35_PAM + reg) & 3));
}

static void pam_write(QTestState *to, int reg, uint8_t value)
{
    qtest_outl(to, PCI_ADDRESS, 0x80000000 | ((Q35_PAM + reg) & ~3));
    qtest_outb(to, PCI_DATA + ((Q35_PAM + reg) & 3), value);
}

static void change_pam(QTestState *to)
{
    for (int reg = 1; reg < Q35_NR_PAM; reg++) {
        uint8_t old = pam_read(to, reg);

        for (int value = 0; value < 4; value++) {
            pam_write(to, reg, value | value << 4);
        }
        pam_write(to, reg, old);
    }
}

/* Read its status, then be an array of bytes again: two memslots go and come */
static void change_flash_mode(QTestState *to)
{
    qtest_writeb(to, BIOS_ADDR, 0x70);
    g_assert_cmphex(qtest_readb(to, BIOS_ADDR) & 0x80, ==, 0x80);
    qtest_writeb(to, BIOS_ADDR, 0xff);
}

static void log_dirty_pages(QTestState *to)
{
    qtest_qmp_assert_success(to, "{ 'execute': 'calc-dirty-rate', 'arguments':"
                             "  { 'calc-time': 1, 'mode': 'dirty-bitmap' } }");
}

static void screendump(QTestState *to)
{
    g_autofree char *path = g_strdup_printf("%s/screen",
                                            migration_get_env()->tmpfs);

    qtest_qmp_assert_success(to, "{ 'execute': 'screendump', 'arguments':"
                             "  { 'filename': %s } }", path);
    unlink(path);
}

static bool hook_change_slots(QTestState *from, QTestState *to)
{
    log_dirty_pages(to);
    for (int i = 0; i < 20; i++) {
        change_pam(to);
        change_flash_mode(to);
        screendump(to);
    }
    /* Off again, if it was on until now */
    g_usleep(2 * G_USEC_PER_SEC);
    log_dirty_pages(to);
    change_pam(to);
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);
    return true;
}

/* The firmware as a file, from a machine that has it. */
static char *make_flash(void)
{
    g_autofree char *path = g_strdup_printf("%s/flash",
                                            migration_get_env()->tmpfs);
    g_autofree char *bios = g_malloc(BIOS_SIZE);
    QTestState *qts = qtest_init("-machine q35 -display none");

    qtest_memread(qts, BIOS_ADDR, bios, BIOS_SIZE);
    qtest_quit(qts);
    g_assert_true(g_file_set_contents(path, bios, BIOS_SIZE, NULL));
    return g_steal_pointer(&path);
}

static void test_slots(void)
{
    g_autofree char *flash = make_flash();
    g_autofree char *opts = g_strdup_printf("-drive if=pflash,format=raw,"
                                            "readonly=on,file=%s", flash);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = migrate_hook_start_slow_postcopy,
        .postcopy_hook = hook_change_slots,
        .start.opts_source = opts,
        .start.opts_target = opts,
    };

    test_postcopy_common(&args);
    unlink(flash);
}

void migration_test_add_postcopy_kvm_userfault_kicks(MigrationTestEnv *env)
{
    migration_test_add(PREFIX "kicks", test_kicks);
    migration_test_add(PREFIX "quit", test_quit);
    migration_test_add(PREFIX "main-loop-waits", test_main_loop_waits);
    migration_test_add(PREFIX "slots", test_slots);
}
