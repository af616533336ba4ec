/*
 * KVM userfault, without KVM
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm-userfault.h"

KvmUserfaultSupport kvm_userfault_host(void)
{
    return KVM_USERFAULT_SUPPORT_NONE;
}

OnOffAuto kvm_userfault_setting(void)
{
    return ON_OFF_AUTO_AUTO;
}

bool kvm_userfault_supported(Error **errp)
{
    error_setg(errp, "this QEMU was built without KVM");
    return false;
}

bool kvm_userfault_arm(Error **errp)
{
    g_assert_not_reached();
}

void kvm_userfault_disarm(void)
{
    g_assert_not_reached();
}

bool kvm_userfault_state_pages(void (*fn)(RAMBlock *rb, ram_addr_t offset,
                                          void *opaque),
                               void *opaque, Error **errp)
{
    g_assert_not_reached();
}

uint64_t kvm_userfault_spurious(void)
{
    return 0;
}
