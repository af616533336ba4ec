/*
 * KVM userfault: pages that x86's KVM touches when it is given vCPU state
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "cpu.h"
#include "accel/kvm/kvm-userfault.h"
#include "kvm-userfault-nested.h"

/* These MSRs have flags below the address; bit 0 says that it is in use. */
#define MSR_IN_USE 1ULL

/* KVM_SET_SREGS reads the four PDPTEs. */
static bool has_pdptrs(CPUX86State *env)
{
    return env->cr[0] & CR0_PG_MASK && env->cr[4] & CR4_PAE_MASK &&
           !(env->efer & MSR_EFER_LMA);
}

bool kvm_arch_userfault_state_pages(CPUState *cpu,
                                    void (*fn)(hwaddr gpa, hwaddr length,
                                               void *opaque),
                                    void *opaque, Error **errp)
{
    CPUX86State *env = &X86_CPU(cpu)->env;
    const char *nested = kvm_userfault_nested(env->nested_state);
    /* One page each, but for what is not aligned: then the bytes matter. */
    const struct {
        uint64_t msr;
        hwaddr length;
    } areas[] = {
        { env->system_time_msr, 32 },
        { env->steal_time_msr, 64 },
        { env->async_pf_en_msr, 64 },
        { env->pv_eoi_en_msr, 4 },
        { env->msr_hv_vapic, 4096 },
        { env->msr_hv_synic_msg_page, 4096 },
        { env->msr_hv_synic_evt_page, 4096 },
        { env->msr_hv_tsc, 4096 },
        { env->msr_hv_hypercall, 4096 },
    };

    if (nested) {
        error_setg(errp, "vCPU %d %s", cpu->cpu_index, nested);
        return false;
    }
    for (int i = 0; i < ARRAY_SIZE(areas); i++) {
        if (areas[i].msr & MSR_IN_USE) {
            fn(areas[i].msr & ~MSR_IN_USE, areas[i].length, opaque);
        }
    }
    if (env->wall_clock_msr) {
        fn(env->wall_clock_msr, 12, opaque);
    }
    if (has_pdptrs(env)) {
        fn(env->cr[3] & ~0x1fULL, 32, opaque);
    }
    return true;
}
