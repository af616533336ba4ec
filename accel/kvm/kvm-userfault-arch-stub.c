/*
 * KVM userfault, where the architecture's KVM does not have KVM_CAP_USERFAULT
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "kvm-userfault.h"

bool kvm_arch_userfault_state_pages(CPUState *cpu,
                                    void (*fn)(hwaddr gpa, hwaddr length,
                                               void *opaque),
                                    void *opaque, Error **errp)
{
    return true;
}
