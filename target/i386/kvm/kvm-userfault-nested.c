/*
 * KVM userfault: nested states for which KVM reads guest memory
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "kvm-userfault-nested.h"

/* What KVM has where there is no address. */
#define NESTED_NO_GPA (-1ull)

/*
 * The vCPU goes on in the nested guest: KVM maps what its control block points
 * to, permission maps, virtual APIC pages, page tables, and fails for good if
 * that is missing.
 */
static bool in_guest_mode(const struct kvm_nested_state *state)
{
    return state->flags & KVM_STATE_NESTED_GUEST_MODE;
}

/*
 * The control block is in guest memory: KVM finds it by Hyper-V's VP assist
 * page and maps it.  Outside of VMX operation KVM ignores the flag.
 */
static bool has_enlightened_vmcs(const struct kvm_nested_state *state)
{
    return state->format == KVM_STATE_NESTED_FORMAT_VMX &&
           state->flags & KVM_STATE_NESTED_EVMCS &&
           state->hdr.vmx.vmxon_pa != NESTED_NO_GPA;
}

/*
 * All else comes with the state.  In VMX operation this is what KVM has of the
 * current VMCS and, in SMM, whether there was a nested guest: RSM goes back to
 * it in KVM_RUN, which can wait for pages.  A guest that has loaded its
 * hypervisor is in VMX operation all the time, with nested guests or without.
 */
const char *kvm_userfault_nested(const struct kvm_nested_state *state)
{
    if (!state) {
        return NULL;
    }
    if (in_guest_mode(state)) {
        return "runs a nested guest";
    }
    if (has_enlightened_vmcs(state)) {
        return "has an enlightened VMCS";
    }
    return NULL;
}
