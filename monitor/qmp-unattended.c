/*
 * QMP requests that the main loop does not get to
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/qmp-unattended.h"
#include "qobject/qdict.h"
#include "system/ram-wait.h"
#include "monitor-internal.h"
#include "qmp-turn.h"
#include "trace.h"

/*
 * What recovers or ends a VM, and what a client asks before.  These run without
 * the BQL, at any time and while the main loop runs too, and never wait: look
 * at all of a command's handler before it is added.
 *
 * Besides, there are the commands that may be executed out-of-band; they keep
 * the same rules anyway.  migrate-pause and migrate-recover are such commands.
 */
static const char *const commands[] = {
    /* Of the monitor only, whose turn it is. */
    "qmp_capabilities",
    "query-commands",
    /* Constant. */
    "query-name",
    "query-version",
    /* Reads the run state. */
    "query-status",
    /* Lists that it reads are protected by migration_info_lock. */
    "query-migrate",
    /* Sets a flag and wakes the main loop, as a signal handler does. */
    "quit",
    NULL
};

/* Can @req be run without the main loop? */
static bool can_be_attended(const QMPRequest *req)
{
    const QDict *dict = qobject_to(QDict, req->req);
    const char *name = dict ? qdict_get_try_str(dict, "execute") : NULL;
    const QmpCommand *cmd = name ? qmp_find_command(req->mon->commands, name)
                                 : NULL;

    if (!cmd) {
        /* All that comes of it is an error. */
        return true;
    }
    return (cmd->options & QCO_ALLOW_OOB) || g_strv_contains(commands, name);
}

static bool claims(const QMPRequest *req)
{
    return qatomic_read(&ram_wait_active) &&
           req->mon->common.use_io_thread && can_be_attended(req);
}

/* The dispatcher may have taken it before it was left to mon_iothread. */
static bool runs_what_it_claims(MonitorQMP *mon)
{
    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    return mon->running && claims(mon->running);
}

bool qmp_unattended_settled(void)
{
    Monitor *mon;

    QEMU_LOCK_GUARD(&monitor_lock);
    QTAILQ_FOREACH(mon, &mon_list, entry) {
        if (monitor_is_qmp(mon) &&
            runs_what_it_claims(container_of(mon, MonitorQMP, common))) {
            return false;
        }
    }
    return true;
}

static QMPRequest *take(MonitorQMP *mon)
{
    QMPRequest *req;

    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    req = qmp_turn_take(mon, true);
    if (req && qmp_oob_enabled(mon) &&
        mon->qmp_requests->length == QMP_REQ_QUEUE_LEN_MAX - 1) {
        /* It was suspended because the queue was full. */
        monitor_resume(&mon->common);
    }
    return req;
}

static QMPRequest *take_any(void)
{
    Monitor *mon;

    QEMU_LOCK_GUARD(&monitor_lock);
    if (qmp_dispatcher_co_shutdown) {
        return NULL;
    }
    QTAILQ_FOREACH(mon, &mon_list, entry) {
        QMPRequest *req = NULL;

        if (monitor_is_qmp(mon)) {
            req = take(container_of(mon, MonitorQMP, common));
        }
        if (req) {
            return req;
        }
    }
    return NULL;
}

static void respond_error(QMPRequest *req)
{
    QDict *rsp = qmp_error_response(req->err);

    req->err = NULL;
    qmp_send_response(req->mon, rsp);
    qobject_unref(rsp);
}

/* The dispatcher passed by while it was not its turn. */
static void wake_dispatcher(void)
{
    QEMU_LOCK_GUARD(&monitor_lock);
    if (!qmp_dispatcher_co_shutdown) {
        qmp_dispatcher_co_wake();
    }
}

static void run(QMPRequest *req)
{
    MonitorQMP *mon = req->mon;
    /* As in the dispatcher: qmp_capabilities may change it. */
    bool oob_enabled = qmp_oob_enabled(mon);

    trace_monitor_qmp_unattended(req, mon);
    if (req->req) {
        monitor_qmp_dispatch(mon, req->req);
    } else {
        respond_error(req);
    }
    qmp_turn_end(mon);
    if (!oob_enabled) {
        monitor_resume(&mon->common);
    }
    wake_dispatcher();
    qmp_request_free(req);
}

void qmp_unattended_attend(void)
{
    QMPRequest *req;

    while ((req = take_any())) {
        run(req);
    }
}

static gboolean tick(gpointer opaque)
{
    qmp_unattended_attend();
    if (qatomic_read(&ram_wait_active)) {
        return G_SOURCE_CONTINUE;
    }
    /* What came since is the main loop's again. */
    wake_dispatcher();
    return G_SOURCE_REMOVE;
}

void qmp_unattended_start(void)
{
    g_autoptr(GSource) source = NULL;

    if (!mon_iothread) {
        return;
    }
    qatomic_set(&qmp_turn_claims, claims);
    /* It goes with the context, if QEMU ends while the RAM wait is on. */
    source = g_timeout_source_new(QMP_UNATTENDED_MS);
    g_source_set_callback(source, tick, NULL, NULL);
    g_source_attach(source, iothread_get_g_main_context(mon_iothread));
}

GMainContext *qmp_unattended_context(void)
{
    if (qatomic_read(&ram_wait_active) && mon_iothread) {
        return iothread_get_g_main_context(mon_iothread);
    }
    return g_main_context_get_thread_default();
}
