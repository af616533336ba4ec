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
#include "qemu/lockable.h"

/*
 * Two threads take requests from a monitor's queue: the main loop's dispatcher,
 * and mon_iothread (monitor/qmp-unattended.c).  A monitor's requests are run
 * one after the other and in the order in which they came, whoever runs them.
 *
 * Locks: monitor_lock, then MonitorQMP.qmp_queue_lock.  Neither is held while a
 * request is run.
 */

/**
 * qmp_turn_take: the first request, if it is its turn
 *
 * Called with mon->qmp_queue_lock held, in the thread that will run the
 * request.  Returns NULL if there is none, or if one that was taken before is
 * still being run; qmp_turn_end() is due otherwise.
 */
static inline QMPRequest *qmp_turn_take(MonitorQMP *mon)
{
    QMPRequest *req;

    if (mon->request_running) {
        return NULL;
    }
    req = g_queue_pop_head(mon->qmp_requests);
    mon->request_running = !!req;
    return req;
}

/* The request of qmp_turn_take() has been answered.  Called without locks. */
static inline void qmp_turn_end(MonitorQMP *mon)
{
    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    mon->request_running = false;
}

#endif /* MONITOR_QMP_TURN_H */
