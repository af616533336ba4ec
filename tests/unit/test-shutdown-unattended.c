/*
 * A shutdown that the main loop does not get to: unit tests
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "qapi/qapi-events-run-state.h"
#include "system/ram-wait.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "system/shutdown-unattended.h"
#include "system/system.h"

/* Status of a process that was not ended */
#define GOES_ON 42

/* --- What system/shutdown-unattended.c takes from the rest of QEMU --- */

ShutdownAction shutdown_action = SHUTDOWN_ACTION_POWEROFF;

static ShutdownCause requested;
static int64_t stuck_ns;
static Notifier *notifier;
/* Gets what the process does at its end, a character each */
static int done_fd;

ShutdownCause qemu_shutdown_requested_get(void)
{
    return qatomic_read(&requested);
}

void qemu_register_shutdown_notifier(Notifier *n)
{
    NotifierList list = NOTIFIER_LIST_INITIALIZER(list);

    g_assert_null(notifier);
    notifier = n;
    notifier_list_add(&list, n);
}

int64_t ram_wait_stuck_ns(void)
{
    return qatomic_read_i64(&stuck_ns);
}

static void done(char what)
{
    g_assert_cmpint(write(done_fd, &what, 1), ==, 1);
}

void qapi_event_send_shutdown(bool guest, ShutdownCause reason)
{
    g_assert_false(guest);
    done('e');
}

void qemu_unlink_pidfile_now(void)
{
    done('p');
}

/* --- Processes that are to end, or not --- */

static void wait_ms(int ms)
{
    g_usleep(ms * 1000);
}

/*
 * Runs @fn in a process of its own while somebody is stuck.  Returns its exit
 * status, and what it has done at its end in @what.
 */
static int run(void (*fn)(void), char *what, int64_t *ms)
{
    int64_t start = g_get_monotonic_time();
    int fds[2], status;
    ssize_t n;
    pid_t pid;

    g_assert_cmpint(pipe(fds), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (!pid) {
        close(STDERR_FILENO);
        done_fd = fds[1];
        stuck_ns = 3600 * NANOSECONDS_PER_SECOND;
        shutdown_unattended_start();
        fn();
        _exit(GOES_ON);
    }
    close(fds[1]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    *ms = (g_get_monotonic_time() - start) / 1000;
    n = read(fds[0], what, 8);
    g_assert_cmpint(n, >=, 0);
    what[n] = '\0';
    close(fds[0]);
    return WEXITSTATUS(status);
}

static void assert_ends(void (*fn)(void), const char *does)
{
    char what[9];
    int64_t ms;

    g_assert_cmpint(run(fn, what, &ms), ==, EXIT_SUCCESS);
    g_assert_cmpstr(what, ==, does);
    /* There was time for an orderly end */
    g_assert_cmpint(ms, >=, 1000);
    g_assert_cmpint(ms, <, 2000);
}

static void assert_goes_on(void (*fn)(void))
{
    char what[9];
    int64_t ms;

    g_assert_cmpint(run(fn, what, &ms), ==, GOES_ON);
    g_assert_cmpstr(what, ==, "");
}

static void request(ShutdownCause cause)
{
    qatomic_set(&requested, cause);
    wait_ms(3000);
}

static void by_signal(void)
{
    request(SHUTDOWN_CAUSE_HOST_SIGNAL);
}

static void by_quit(void)
{
    request(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
}

static void by_guest(void)
{
    request(SHUTDOWN_CAUSE_GUEST_SHUTDOWN);
}

static void pause_instead(void)
{
    shutdown_action = SHUTDOWN_ACTION_PAUSE;
    request(SHUTDOWN_CAUSE_HOST_UI);
}

static void nobody_asks(void)
{
    request(SHUTDOWN_CAUSE_NONE);
}

/* The main loop takes the request, and makes no progress later */
static void main_loop_begins(void)
{
    ShutdownCause cause = SHUTDOWN_CAUSE_HOST_SIGNAL;

    qatomic_set(&requested, cause);
    qatomic_set(&requested, SHUTDOWN_CAUSE_NONE);
    notifier->notify(notifier, &cause);
    wait_ms(3000);
}

static void main_loop_begins_for_guest(void)
{
    ShutdownCause cause = SHUTDOWN_CAUSE_GUEST_SHUTDOWN;

    notifier->notify(notifier, &cause);
    wait_ms(3000);
}

static void nobody_waits(void)
{
    qatomic_set_i64(&stuck_ns, 0);
    by_signal();
}

/* Pages arrive, if slowly */
static void somebody_gets_on(void)
{
    qatomic_set_i64(&stuck_ns, NANOSECONDS_PER_SECOND / 2);
    by_signal();
}

static void ram_wait_off(void)
{
    shutdown_unattended_stop();
    /* Stopping it again is harmless */
    shutdown_unattended_stop();
    by_signal();
}

/* Of another migration, after one that has ended */
static void again(void)
{
    shutdown_unattended_stop();
    shutdown_unattended_start();
    by_quit();
}

static void test_ends(void)
{
    assert_ends(by_signal, "ep");
    assert_ends(by_quit, "ep");
    assert_ends(again, "ep");
    /* It has sent the event itself */
    assert_ends(main_loop_begins, "p");
}

static void test_goes_on(void)
{
    assert_goes_on(nobody_asks);
    assert_goes_on(by_guest);
    assert_goes_on(main_loop_begins_for_guest);
    assert_goes_on(pause_instead);
    assert_goes_on(nobody_waits);
    assert_goes_on(somebody_gets_on);
    assert_goes_on(ram_wait_off);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shutdown-unattended/ends", test_ends);
    g_test_add_func("/shutdown-unattended/goes-on", test_goes_on);
    return g_test_run();
}
