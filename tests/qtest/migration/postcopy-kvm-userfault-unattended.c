/*
 * QTest testcases for postcopy migration with KVM userfault: somebody has the
 * BQL, most of them to wait for a page while the network is down
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "libqmp.h"
#include "libqtest.h"
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"

#define PREFIX "/migration/postcopy-kvm-userfault/unattended/"

/* What is promised, and for how long silence is taken for no answer */
#define ANSWER_MS   1000
#define END_MS      2000
#define SILENCE_MS  3000

/* All that is missing has come, if nobody is in the way */
#define OVER_MS     10000

/*
 * A guest that does what the migration tests' own does, and has QEMU read a
 * part of each page before, in its vCPU's thread and with the BQL held: fw_cfg
 * takes a descriptor from there, of zeros, which asks for nothing.
 *
 *   cli; xor %ax,%ax; mov %ax,%ds; in $0x92,%al; or $2,%al; out %al,$0x92
 *   lgdt gdtdesc; mov $1,%eax; mov %eax,%cr0; ljmp $8,$pm
 * .code32
 * pm:
 *   mov $16,%ax; mov %ax,%ds; mov $0x3f8,%dx; mov $'A',%al; out %al,%dx
 * pass:
 *   mov $0x100000,%esi
 * page:
 *   lea 16(%esi),%eax; bswap %eax; mov $0x518,%dx; out %eax,%dx
 *   incb (%esi); add $0x1000,%esi; cmp $0x6400000,%esi; jb page
 *   mov $0x3f8,%dx; mov $'B',%al; out %al,%dx; jmp pass
 * .balign 8
 * gdt: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
 * gdtdesc: .word 23; .long gdt
 */
static const uint8_t fw_cfg_guest[510] = {
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xe4, 0x92, 0x0c, 0x02, 0xe6, 0x92, 0x0f,
    0x01, 0x16, 0x70, 0x7c, 0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x22,
    0xc0, 0xea, 0x1e, 0x7c, 0x08, 0x00, 0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8,
    0x66, 0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xbe, 0x00, 0x00, 0x10, 0x00,
    0x8d, 0x46, 0x10, 0x0f, 0xc8, 0x66, 0xba, 0x18, 0x05, 0xef, 0xfe, 0x06,
    0x81, 0xc6, 0x00, 0x10, 0x00, 0x00, 0x81, 0xfe, 0x00, 0x00, 0x40, 0x06,
    0x72, 0xe6, 0x66, 0xba, 0xf8, 0x03, 0xb0, 0x42, 0xee, 0xeb, 0xd8, 0x8d,
    0x74, 0x26, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00, 0xff, 0xff, 0x00, 0x00,
    0x00, 0x92, 0xcf, 0x00, 0x17, 0x00, 0x58, 0x7c, 0x00, 0x00,
};

static char *tmp_path(const char *name)
{
    return g_strdup_printf("%s/%s", migration_get_env()->tmpfs, name);
}

/* What a QEMU leaves behind that could not end properly, and our own file */
static void remove_tmp(void)
{
    const char *names[] = { "inband", "inband2", "fw-cfg-guest" };

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        g_autofree char *path = tmp_path(names[i]);

        unlink(path);
    }
}

/* --- A client that does not know of out-of-band commands --- */

static char *monitor_options(void)
{
    g_autofree char *path = tmp_path("inband");
    g_autofree char *path2 = tmp_path("inband2");

    return g_strdup_printf(
        "-chardev socket,id=inband,path=%s,server=on,wait=off "
        "-mon chardev=inband,mode=control "
        "-chardev socket,id=inband2,path=%s,server=on,wait=off "
        "-mon chardev=inband2,mode=control", path, path2);
}

/* Is there more than the end of the last line? */
static bool readable(int fd, int ms)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    char c;

    while (RETRY_ON_EINTR(poll(&pfd, 1, ms)) == 1) {
        if (recv(fd, &c, 1, MSG_PEEK) != 1 || !g_ascii_isspace(c)) {
            return true;
        }
        g_assert_cmpint(recv(fd, &c, 1, 0), ==, 1);
    }
    return false;
}

/* The next that is not an event */
static QDict *receive(int fd)
{
    for (;;) {
        QDict *rsp = qmp_fd_receive(fd);

        if (!qdict_haskey(rsp, "event")) {
            return rsp;
        }
        qobject_unref(rsp);
    }
}

/*
 * Does the event come, with that status if there is to be one?  Waits so many
 * milliseconds of silence at most; or for ever, if it is less than 0.
 */
static bool event_comes(int fd, const char *event, const char *status, int ms)
{
    bool seen = false;

    while (!seen && readable(fd, ms)) {
        QDict *rsp = qmp_fd_receive(fd);

        seen = g_str_equal(qdict_get_try_str(rsp, "event") ?: "", event);
        if (seen && status) {
            QDict *data = qdict_get_qdict(rsp, "data");

            seen = g_str_equal(qdict_get_str(data, "status"), status);
        }
        qobject_unref(rsp);
    }
    return seen;
}

/* Sends a command, and gets its answer in time */
static G_GNUC_PRINTF(2, 3) QDict *ask(int fd, const char *fmt, ...)
{
    int64_t start = g_get_monotonic_time();
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    qmp_fd_vsend(fd, fmt, ap);
    va_end(ap);
    g_assert_true(readable(fd, 30 * ANSWER_MS));
    rsp = receive(fd);
    g_assert_cmpint((g_get_monotonic_time() - start) / 1000, <, ANSWER_MS);
    return rsp;
}

static QDict *returned(QDict *rsp)
{
    QDict *ret = qdict_get_qdict(rsp, "return");

    g_assert_nonnull(ret);
    qobject_ref(ret);
    qobject_unref(rsp);
    return ret;
}

static int connect_in_band(const char *name)
{
    g_autofree char *path = tmp_path(name);
    int fd = unix_connect(path, &error_abort);

    g_assert_true(readable(fd, ANSWER_MS));
    qobject_unref(receive(fd));
    qobject_unref(returned(ask(fd, "{ 'execute': 'qmp_capabilities' }")));
    return fd;
}

static void assert_status(QDict *rsp, const char *status)
{
    QDict *ret = returned(rsp);

    g_assert_cmpstr(qdict_get_str(ret, "status"), ==, status);
    qobject_unref(ret);
}

/* --- Who waits --- */

/*
 * Until the main loop makes no progress.  The command is harmless, and is
 * forgotten with the connection.
 */
static bool wait_until_deaf(void)
{
    int fd = connect_in_band("inband2");
    bool deaf = false;

    for (int i = 0; i < 300 && !deaf; i++) {
        qmp_fd_send(fd, "{ 'execute': 'query-uuid' }");
        deaf = !readable(fd, SILENCE_MS);
        if (!deaf) {
            qobject_unref(returned(receive(fd)));
            g_usleep(10 * 1000);
        }
    }
    close(fd);
    return deaf;
}

/*
 * It needs luck: if the guest was migrated between fw_cfg's access to a page
 * and its own, and the link went down before that came, the vCPU waits for it
 * without the BQL.
 */
static void vcpu_waits_with_bql(void)
{
    if (!wait_until_deaf()) {
        g_test_message("The vCPU waits without the BQL this time");
    }
}

static void main_loop_waits(QTestState *to)
{
    main_loop_reads_start(to);
    g_assert_true(wait_until_deaf());
}

/* The same, in a process that sees its QEMU die, and dies with it */
static pid_t main_loop_waits_for_ever(QTestState *to)
{
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (!pid) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        main_loop_reads(to);
        _exit(0);
    }
    g_assert_true(wait_until_deaf());
    return pid;
}

static char *fw_cfg_guest_options(void)
{
    g_autofree char *path = tmp_path("fw-cfg-guest");
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpint(fwrite(fw_cfg_guest, sizeof(fw_cfg_guest), 1, file), ==, 1);
    g_assert_cmpint(fwrite("\x55\xaa", 2, 1, file), ==, 1);
    fclose(file);
    return g_strdup_printf(
        "-drive if=none,id=d1,file=%s,format=raw -device "
        "ide-hd,drive=d1,bus=ide.2,secs=1,cyls=1,heads=1,bootindex=0", path);
}

/* --- What recovery needs is answered --- */

static void ask_what_recovery_needs(int fd)
{
    QDict *rsp;

    for (int i = 0; i < 100; i++) {
        rsp = returned(ask(fd, "{ 'execute': 'query-status' }"));
        g_assert_cmpstr(qdict_get_str(rsp, "status"), ==, "running");
        qobject_unref(rsp);
    }
    assert_status(ask(fd, "{ 'execute': 'query-migrate' }"), "postcopy-paused");
    /* It is paused */
    rsp = ask(fd, "{ 'execute': 'migrate-pause' }");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    /* No such command, no command, no JSON: these are answered, too */
    rsp = ask(fd, "{ 'execute': 'migrate-resume-please' }");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    rsp = ask(fd, "{ 'id': 1 }");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
}

static int in_band = -1;

static bool hook_main_loop_waits(QTestState *from, QTestState *to)
{
    main_loop_waits(to);
    in_band = connect_in_band("inband");
    ask_what_recovery_needs(in_band);
    return true;
}

static bool hook_vcpu_waits(QTestState *from, QTestState *to)
{
    vcpu_waits_with_bql();
    in_band = connect_in_band("inband");
    ask_what_recovery_needs(in_band);
    return true;
}

static void recover_in_band(QTestState *to, const char *uri)
{
    qobject_unref(returned(ask(in_band, "{ 'execute': 'migrate-recover',"
                               "  'arguments': { 'uri': %s } }", uri)));
}

/* The main loop gets to this one, but not to the connection that follows */
static bool hook_vcpu_waits_without_bql(QTestState *from, QTestState *to)
{
    in_band = connect_in_band("inband");
    return true;
}

static void recover_and_wait(QTestState *to, const char *uri)
{
    recover_in_band(to, uri);
    main_loop_waits(to);
}

static void hook_end(QTestState *from, QTestState *to, void *opaque)
{
    main_loop_reads_stop();
    close(in_band);
    g_assert_cmpint(migrate_query_kvm_userfault(to, "ram-waits"), >, 0);
}

static void test_main_loop(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_main_loop_waits,
        .postcopy_recover = recover_in_band,
        .end_hook = hook_end,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

static void test_main_loop_preempt(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
        .postcopy_hook = hook_main_loop_waits,
        .postcopy_recover = recover_in_band,
        .end_hook = hook_end,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

#ifdef CONFIG_GNUTLS
static void hook_end_tls(QTestState *from, QTestState *to, void *opaque)
{
    hook_end(from, to, NULL);
    migrate_hook_end_tls_psk(from, to, opaque);
}

static void test_main_loop_tls(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
        .postcopy_hook = hook_main_loop_waits,
        .postcopy_recover = recover_in_band,
        .start_hook = migrate_hook_start_tls_psk_match,
        .end_hook = hook_end_tls,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}
#endif

static void test_main_loop_later(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_preempt = true,
        .postcopy_hook = hook_vcpu_waits_without_bql,
        .postcopy_recover = recover_and_wait,
        .end_hook = hook_end,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

static void test_vcpu(void)
{
    g_autofree char *guest = fw_cfg_guest_options();
    g_autofree char *monitors = monitor_options();
    g_autofree char *opts = g_strdup_printf("%s %s", guest, monitors);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_vcpu_waits,
        .postcopy_recover = recover_in_band,
        .end_hook = hook_end,
        .start.opts_source = guest,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
    remove_tmp();
}

/* --- In order --- */

static int ordered = -1;
static GThread *waits_for_order;

/* What the main loop leaves keeps its place, and others wait behind it */
static bool hook_order(QTestState *from, QTestState *to)
{
    main_loop_waits(to);
    in_band = connect_in_band("inband");
    ordered = connect_in_band("inband2");

    assert_status(ask(ordered, "{ 'execute': 'query-status' }"), "running");
    qmp_fd_send(ordered, "{ 'execute': 'stop' }");
    g_assert_false(readable(ordered, SILENCE_MS));
    qmp_fd_send(ordered, "{ 'execute': 'query-status', 'id': 'behind' }");
    g_assert_false(readable(ordered, SILENCE_MS));
    /* It is only this one's turn that has not come */
    assert_status(ask(in_band, "{ 'execute': 'query-status' }"), "running");
    return true;
}

static void *receive_in_order(void *opaque)
{
    QDict *rsp = receive(ordered);

    g_assert_false(qdict_haskey(rsp, "id"));
    qobject_unref(returned(rsp));
    rsp = receive(ordered);
    g_assert_cmpstr(qdict_get_str(rsp, "id"), ==, "behind");
    assert_status(rsp, "paused");
    qmp_fd_send(ordered, "{ 'execute': 'cont' }");
    qobject_unref(returned(receive(ordered)));
    return NULL;
}

static void recover_and_receive(QTestState *to, const char *uri)
{
    recover_in_band(to, uri);
    waits_for_order = g_thread_new("order", receive_in_order, NULL);
}

static void hook_end_order(QTestState *from, QTestState *to, void *opaque)
{
    g_thread_join(waits_for_order);
    close(ordered);
    hook_end(from, to, opaque);
}

static void test_order(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_order,
        .postcopy_recover = recover_and_receive,
        .end_hook = hook_end_order,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

/* --- It is over, and the main loop is busy --- */

static bool is_over(int fd, int ms)
{
    return event_comes(fd, "MIGRATION", "completed", ms);
}

static void clear_capability(int fd)
{
    qmp_fd_send(fd, "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
                "  'capabilities': [ {"
                "    'capability': 'postcopy-ram', 'state': false } ] } }");
}

/*
 * Whoever is told that it is over can change capabilities from then on, as
 * libvirt does.  The main loop has the BQL until somebody reads the pipe, and
 * so it comes before what is left of the incoming side; mostly, for if a vCPU
 * waits for the BQL in a port access, what is left comes first.
 */
static bool hook_over(QTestState *from, QTestState *to)
{
    g_autofree char *path = tmp_path("pipe");
    int fd = connect_in_band("inband");
    int pipe;
    bool over;

    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    qtest_qmp_send(to, "{ 'execute': 'chardev-add', 'arguments': {"
                   "  'id': 'pipe', 'backend': {"
                   "    'type': 'file', 'data': { 'out': %s } } } }", path);
    g_assert_true(wait_until_deaf());
    migrate_set_parameter_int(from, "max-postcopy-bandwidth", 0);

    over = is_over(fd, OVER_MS);
    if (over) {
        clear_capability(fd);
    }
    pipe = open(path, O_RDONLY);
    g_assert_cmpint(pipe, >=, 0);
    unlink(path);
    if (!over) {
        g_assert_true(is_over(fd, -1));
        clear_capability(fd);
    }
    qobject_unref(returned(receive(fd)));
    qobject_unref(returned(qtest_qmp_receive(to)));
    close(pipe);
    close(fd);
    return true;
}

static void test_over(void)
{
    g_autofree char *opts = monitor_options();
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = migrate_hook_start_slow_postcopy,
        .postcopy_hook = hook_over,
        .start.opts_target = opts,
    };

    test_postcopy_common(&args);
}

/* --- QEMU ends, whoever waits --- */

typedef enum Waiter {
    VCPU, VCPU_WITH_BQL, MAIN_LOOP,
} Waiter;

static struct {
    Waiter who;
    /* Or 0, for 'quit' */
    int signal;
} end;

static bool hook_end_qemu(QTestState *from, QTestState *to)
{
    g_autofree char *pidfile = tmp_path("pidfile");
    int fd = connect_in_band("inband");
    pid_t child = 0;
    int64_t start;

    if (end.who == MAIN_LOOP) {
        child = main_loop_waits_for_ever(to);
    } else if (end.who == VCPU_WITH_BQL) {
        vcpu_waits_with_bql();
    } else {
        g_usleep(SILENCE_MS * 1000);
    }
    g_assert_true(g_file_test(pidfile, G_FILE_TEST_EXISTS));

    start = g_get_monotonic_time();
    if (end.signal) {
        kill(qtest_pid(to), end.signal);
    } else {
        qobject_unref(returned(ask(fd, "{ 'execute': 'quit' }")));
    }
    /* Its exit status has to be 0 */
    qtest_wait_qemu(to);
    g_assert_cmpint((g_get_monotonic_time() - start) / 1000, <, END_MS);

    if (end.signal) {
        /* With 'quit' it may have come before the answer */
        g_assert_true(event_comes(fd, "SHUTDOWN", NULL, -1));
    }
    close(fd);
    g_assert_false(g_file_test(pidfile, G_FILE_TEST_EXISTS));
    if (child) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return false;
}

static void test_end(Waiter who, int signal)
{
    g_autofree char *guest = who == VCPU_WITH_BQL ? fw_cfg_guest_options()
                                                  : g_strdup("");
    g_autofree char *monitors = monitor_options();
    g_autofree char *pidfile = tmp_path("pidfile");
    g_autofree char *opts = g_strdup_printf("%s %s -pidfile %s", guest,
                                            monitors, pidfile);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .postcopy_hook = hook_end_qemu,
        .start.opts_source = guest,
        .start.opts_target = opts,
    };

    end.who = who;
    end.signal = signal;
    test_postcopy_recovery_common(&args);
    remove_tmp();
}

static void test_end_main_loop_quit(void)
{
    test_end(MAIN_LOOP, 0);
}

static void test_end_main_loop_sigterm(void)
{
    test_end(MAIN_LOOP, SIGTERM);
}

static void test_end_main_loop_sigint(void)
{
    test_end(MAIN_LOOP, SIGINT);
}

static void test_end_vcpu_with_bql_quit(void)
{
    test_end(VCPU_WITH_BQL, 0);
}

static void test_end_vcpu_with_bql_sigterm(void)
{
    test_end(VCPU_WITH_BQL, SIGTERM);
}

static void test_end_vcpu_quit(void)
{
    test_end(VCPU, 0);
}

static void test_end_vcpu_sigterm(void)
{
    test_end(VCPU, SIGTERM);
}

void migration_test_add_postcopy_kvm_userfault_waits(MigrationTestEnv *env)
{
    migration_test_add(PREFIX "main-loop/plain", test_main_loop);
    migration_test_add(PREFIX "main-loop/preempt", test_main_loop_preempt);
#ifdef CONFIG_GNUTLS
    migration_test_add(PREFIX "main-loop/tls", test_main_loop_tls);
#endif
    migration_test_add(PREFIX "main-loop/later", test_main_loop_later);
    migration_test_add(PREFIX "vcpu", test_vcpu);
    migration_test_add(PREFIX "order", test_order);
    migration_test_add(PREFIX "over", test_over);
    migration_test_add(PREFIX "end/main-loop/quit", test_end_main_loop_quit);
    migration_test_add(PREFIX "end/main-loop/sigterm",
                       test_end_main_loop_sigterm);
    migration_test_add(PREFIX "end/main-loop/sigint",
                       test_end_main_loop_sigint);
    migration_test_add(PREFIX "end/vcpu-with-bql/quit",
                       test_end_vcpu_with_bql_quit);
    migration_test_add(PREFIX "end/vcpu-with-bql/sigterm",
                       test_end_vcpu_with_bql_sigterm);
    migration_test_add(PREFIX "end/vcpu/quit", test_end_vcpu_quit);
    migration_test_add(PREFIX "end/vcpu/sigterm", test_end_vcpu_sigterm);
}
