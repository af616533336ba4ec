/*
 * HMP commands that look at guest memory
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/postcopy-kvm-userfault.h"
#include "monitor/hmp.h"
#include "monitor/hmp-guest-memory.h"
#include "qapi/error.h"

bool hmp_may_read_guest_memory(Monitor *mon, const char *command)
{
    Error *err = NULL;

    if (postcopy_kvm_userfault_allows(command, &err)) {
        return true;
    }
    hmp_handle_error(mon, err);
    return false;
}
