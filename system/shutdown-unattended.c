/*
 * A shutdown that the main loop does not get to
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "qapi/qapi-events-run-state.h"
#include "system/ram-wait.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "system/shutdown-unattended.h"
#include "system/system.h"

/* How often the thread looks. */
#define TICK_MS 100

/* Time for an orderly end, from the request on. */
#define PATIENCE_NS NANOSECONDS_PER_SECOND

static struct {
    QemuThread thread;
    QemuSemaphore stop;
    bool running;
    /*
     * The cause, once the main loop has begun to end QEMU.  Written by the main
     * thread, read by ours.
     */
    ShutdownCause begun;
} watch;

static bool ends_qemu(ShutdownCause cause)
{
    return cause != SHUTDOWN_CAUSE_NONE && !shutdown_caused_by_guest(cause) &&
           shutdown_action != SHUTDOWN_ACTION_PAUSE;
}

static void shutdown_begins(Notifier *notifier, void *data)
{
    const ShutdownCause *cause = data;

    if (ends_qemu(*cause)) {
        qatomic_set(&watch.begun, *cause);
    }
}

/*
 * Why QEMU is to end, if the user wants it to.  What was asked for is forgotten
 * by the main loop a moment before shutdown_begins(); then the next look finds
 * it.
 */
static ShutdownCause wanted(void)
{
    ShutdownCause cause = qatomic_read(&watch.begun);

    if (cause == SHUTDOWN_CAUSE_NONE) {
        cause = qemu_shutdown_requested_get();
    }
    return ends_qemu(cause) ? cause : SHUTDOWN_CAUSE_NONE;
}

/*
 * No exit(): its handlers take the BQL, and who has it may wait for a page.
 * All that is done here takes only locks that nobody keeps while he waits.
 */
static G_NORETURN void end_here(ShutdownCause cause)
{
    warn_report("QEMU ends although device emulation waits for guest memory "
                "that has not arrived; to the guest it is a power cut");
    if (qatomic_read(&watch.begun) == SHUTDOWN_CAUSE_NONE) {
        qapi_event_send_shutdown(false, cause);
    }
    qemu_unlink_pidfile_now();
    _exit(EXIT_SUCCESS);
}

static void *watch_thread(void *opaque)
{
    int64_t since_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    /* Returns -1 when the time is over. */
    while (qemu_sem_timedwait(&watch.stop, TICK_MS) < 0) {
        int64_t now_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        ShutdownCause cause = wanted();

        if (cause == SHUTDOWN_CAUSE_NONE) {
            since_ns = now_ns;
        } else if (now_ns - since_ns >= PATIENCE_NS &&
                   ram_wait_stuck_ns() >= PATIENCE_NS) {
            end_here(cause);
        }
    }
    return NULL;
}

void shutdown_unattended_start(void)
{
    static Notifier notifier = { .notify = shutdown_begins };

    if (!notifier.node.le_prev) {
        qemu_register_shutdown_notifier(&notifier);
        qemu_sem_init(&watch.stop, 0);
    }
    watch.running = true;
    qemu_thread_create(&watch.thread, "shutdown", watch_thread, NULL,
                       QEMU_THREAD_JOINABLE);
}

void shutdown_unattended_stop(void)
{
    if (!watch.running) {
        return;
    }
    watch.running = false;
    qemu_sem_post(&watch.stop);
    qemu_thread_join(&watch.thread);
}
