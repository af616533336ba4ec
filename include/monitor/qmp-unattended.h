/*
 * QMP requests that the main loop does not get to
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MONITOR_QMP_UNATTENDED_H
#define MONITOR_QMP_UNATTENDED_H

#include <glib.h>

/*
 * In-band requests are queued by the monitor's own thread (mon_iothread) and
 * run by the dispatcher, in the main loop.  While the RAM wait is on, the
 * main loop may be one of those who wait for a page, or wait for the BQL which
 * one of them holds: forever, if the migration is paused.  So meanwhile the
 * monitor's thread runs those requests that can do without the main loop.
 * monitor/qmp-turn.h keeps the two from getting into each other's way.
 */

/* How often it looks. */
#define QMP_UNATTENDED_MS 20

/**
 * qmp_unattended_start: the RAM wait is on, see to what the main loop leaves
 *
 * Ends by itself when the RAM wait is off.  Called in the main thread.
 */
void qmp_unattended_start(void);

/**
 * qmp_unattended_settled: has the main loop nothing left of what is not its any
 * more?
 *
 * The dispatcher takes a request in one round of the main loop and runs it in
 * the next.  One that it took before qmp_unattended_start() stays its, so until
 * all of these are answered the main thread must not wait for memory.  They are
 * in the next round; what came since may make it look as if they were not.
 * Called in the main thread, without locks.
 */
bool qmp_unattended_settled(void);

/**
 * qmp_unattended_attend: run what is left to mon_iothread
 *
 * Called in mon_iothread, regularly, without locks.
 */
void qmp_unattended_attend(void);

/**
 * qmp_unattended_context: where to listen for who recovers the migration
 *
 * The main loop may begin to wait at any moment, also after it has executed
 * migrate-recover.  While the RAM wait is on, returns mon_iothread's context
 * if there is such a thread; else the calling thread's.
 */
GMainContext *qmp_unattended_context(void);

#endif /* MONITOR_QMP_UNATTENDED_H */
