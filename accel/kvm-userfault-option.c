/*
 * -accel kvm,userfault=on is not forgotten when KVM is not taken
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/accel.h"
#include "qemu/config-file.h"
#include "qemu/option.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "system/kvm-userfault.h"

static int check_option(void *opaque, QemuOpts *opts, Error **errp)
{
    if (g_strcmp0(qemu_opt_get(opts, "accel"), "kvm") ||
        g_strcmp0(qemu_opt_get(opts, "userfault"), "on")) {
        return 0;
    }
    error_setg(errp, "userfault=on needs KVM, and the accelerator is '%s'; "
               "put KVM first and make it work, or leave userfault=on out",
               current_accel_name());
    return -1;
}

void kvm_userfault_check_accel(void)
{
    if (!kvm_enabled()) {
        qemu_opts_foreach(qemu_find_opts("accel"), check_option, NULL,
                          &error_fatal);
    }
}
