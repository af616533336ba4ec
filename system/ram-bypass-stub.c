/*
 * Who gets at guest memory past the RAM wait, where there is no guest
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/ram-bypass.h"

bool ram_bypass_register(RAMBypass *bypass, Error **errp)
{
    return true;
}

void ram_bypass_unregister(RAMBypass *bypass)
{
}
