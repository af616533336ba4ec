/*
 * Whose turn it is: one request of a QMP monitor at a time
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MONITOR_QMP_TURN_H
#define MONITOR_QMP_TURN_H

#include "monitor-internal.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"

/*
 * Two threads take requests from a monitor's queue: the main loop's dispatcher,
 * and mon_iothread (monitor/qmp-unattended.c).  A monitor's requests are run
 * one after the other and in the order in which they came, whoever runs them.
 *
 * Locks: monitor_lock, then MonitorQMP.qmp_queue_lock.  Neither is held while a
 * request is run.
 */

/*
 * Is @req left to mon_iothread?  The dispatcher must not even take it: between
 * that and running it, the main loop may begin to wait for something else.
 * NULL while nothing is left to it, and always in tools.  Called with the
 * queue's lock held.
 */
extern bool (*qmp_turn_claims)(const QMPRequest *req);

/**
 * qmp_turn_take: the first request, if it is its turn
 *
 * @claimed: take one that qmp_turn_claims(), or one that it does not
 *
 * Called with mon->qmp_queue_lock held, in the thread that will run the
 * request.  Returns NULL if there is none for the caller, or if one that was
 * taken before is still being run; qmp_turn_end() is due otherwise.
 */
static inline QMPRequest *qmp_turn_take(MonitorQMP *mon, bool claimed)
{
    bool (*claims)(const QMPRequest *req) = qatomic_read(&qmp_turn_claims);
    const QMPRequest *head = g_queue_peek_head(mon->qmp_requests);

    if (!head || mon->running || (claims && claims(head)) != claimed) {
        return NULL;
    }
    mon->running = head;
    return g_queue_pop_head(mon->qmp_requests);
}

/*
 * The request of qmp_turn_take() has been answered, and is still there.  Called
 * without locks.
 */
static inline void qmp_turn_end(MonitorQMP *mon)
{
    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    mon->running = NULL;
}

#endif /* MONITOR_QMP_TURN_H */
