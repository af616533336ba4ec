/*
 * Whose turn it is: one request of a QMP monitor at a time
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qmp-turn.h"

bool (*qmp_turn_claims)(const QMPRequest *req);
