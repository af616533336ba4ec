/*
 * KVM userfault, what kvm-all.c calls
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_USERFAULT_H
#define ACCEL_KVM_KVM_USERFAULT_H

#include "exec/address-spaces.h"
#include "hw/core/cpu.h"
#include "system/kvm_int.h"
#include "system/ram-barrier.h"

struct kvm_userspace_memory_region2;

/**
 * kvm_userfault_init: @s has a VM now
 *
 * Returns a negative errno, after an error message, if userfault=on was asked
 * for and this host can't do it.
 */
int kvm_userfault_init(KVMState *s);

/**
 * kvm_userfault_slot_add: give @slot, which is new, a view if it needs one
 *
 * These three are called with the slots lock held.
 */
void kvm_userfault_slot_add(KVMSlot *slot);

/* @slot was taken from KVM. */
void kvm_userfault_slot_del(KVMSlot *slot);

/**
 * kvm_userfault_slot_region: say to KVM what @slot's view is
 *
 * Returns true if @mem needs KVM_SET_USER_MEMORY_REGION2.
 */
bool kvm_userfault_slot_region(const KVMSlot *slot,
                               struct kvm_userspace_memory_region2 *mem);

/* Called in the vCPU's thread. */
void kvm_userfault_init_vcpu(CPUState *cpu);
void kvm_userfault_destroy_vcpu(CPUState *cpu);

/**
 * kvm_userfault_handle_exit: wait for the page at @gpa
 *
 * Called in the vCPU's thread, outside of KVM_RUN and without the BQL.
 *
 * Returns 0 if KVM_RUN can go on, and EXCP_INTERRUPT if the vCPU was kicked:
 * then it will fault again when it comes back.
 */
int kvm_userfault_handle_exit(CPUState *cpu, MemTxAttrs attrs, hwaddr gpa);

/* AccelOpsClass.kick_vcpu_thread: also ends the wait above. */
void kvm_userfault_kick_vcpu(CPUState *cpu);

/* What the vCPU sees: in SMM, this is not address_space_memory. */
static inline AddressSpace *kvm_userfault_vcpu_as(CPUState *cpu,
                                                  MemTxAttrs attrs)
{
    return cpu_get_address_space(cpu, cpu_asidx_from_attrs(cpu, attrs));
}

/**
 * kvm_userfault_mmio_as: where the address of a KVM_EXIT_MMIO belongs to
 *
 * KVM leaves with the address of a page in RAM if an instruction that it
 * emulates needs one that is missing.  In SMM, other memory may be there.
 */
static inline AddressSpace *kvm_userfault_mmio_as(CPUState *cpu,
                                                  MemTxAttrs attrs)
{
    if (likely(!qatomic_read(&ram_barrier_active))) {
        return &address_space_memory;
    }
    return kvm_userfault_vcpu_as(cpu, attrs);
}

/**
 * kvm_arch_userfault_state_pages: kvm_userfault_state_pages() for one vCPU
 *
 * @fn: called for each range that KVM touches, with a guest physical address
 *   and a number of bytes
 */
#ifdef TARGET_I386
bool kvm_arch_userfault_state_pages(CPUState *cpu,
                                    void (*fn)(hwaddr gpa, hwaddr length,
                                               void *opaque),
                                    void *opaque);
#else
/* No other architecture's KVM has KVM_CAP_USERFAULT. */
static inline bool
kvm_arch_userfault_state_pages(CPUState *cpu,
                               void (*fn)(hwaddr gpa, hwaddr length,
                                          void *opaque),
                               void *opaque)
{
    return true;
}
#endif

#endif /* ACCEL_KVM_KVM_USERFAULT_H */
