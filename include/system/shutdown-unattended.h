/*
 * A shutdown that the main loop does not get to
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_SHUTDOWN_UNATTENDED_H
#define SYSTEM_SHUTDOWN_UNATTENDED_H

/**
 * shutdown_unattended_start: from now on, nobody who waits for a page keeps
 * QEMU from ending
 *
 * While the RAM wait is on, the main loop may wait for a page, or for
 * somebody who does, and so never come to a SIGTERM, or not get through with
 * what it has to do at the end.  A thread looks after that: if the user (not
 * the guest) wants QEMU to end, and one second later the same threads are still
 * blocked in ram_wait_for(), it ends the process there and then.
 *
 * Such an end is a power cut for the guest: devices are not drained and block
 * drivers do not write back what they cache.  QMP's SHUTDOWN is sent, the file
 * of -pidfile is removed, and the exit status is that of any other end that the
 * user asked for.  Nobody who waits is woken.
 *
 * Called in the main thread, when the RAM wait is on.
 */
void shutdown_unattended_start(void);

/**
 * shutdown_unattended_stop: the RAM wait is off again
 *
 * Waits for the thread, which takes no lock that the caller may have, but the
 * monitor's.  Does nothing without a shutdown_unattended_start().
 */
void shutdown_unattended_stop(void);

#endif /* SYSTEM_SHUTDOWN_UNATTENDED_H */
