/*
 * HMP commands that look at guest memory
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MONITOR_HMP_GUEST_MEMORY_H
#define MONITOR_HMP_GUEST_MEMORY_H

#include "monitor/monitor.h"

/**
 * hmp_may_read_guest_memory: would @command not have to wait for memory?
 *
 * Returns false, after it has told why in @mon, while guest memory may be
 * missing: the monitor must not wait for it, and with it all commands behind.
 */
bool hmp_may_read_guest_memory(Monitor *mon, const char *command);

#endif /* MONITOR_HMP_GUEST_MEMORY_H */
