/*
 * KVM userfault, what kvm-all.c calls
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_USERFAULT_H
#define ACCEL_KVM_KVM_USERFAULT_H

#include <linux/kvm.h>
#include "exec/address-spaces.h"
#include "hw/core/cpu.h"
#include "system/kvm_int.h"

/* The property of -accel kvm. */
void kvm_userfault_class_init(ObjectClass *oc);

/**
 * kvm_userfault_init: @s has a VM now, of type @vm_type
 *
 * Exits, after an error message, if userfault=on was asked for and this host
 * can't do it: no other accelerator of the list can, either.
 */
void kvm_userfault_init(KVMState *s, int vm_type);

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

/* What @cpu sees in SMM, of which @attrs tell. */
AddressSpace *kvm_userfault_smm_as(CPUState *cpu, MemTxAttrs attrs);

/**
 * kvm_userfault_vcpu_as: where the address of an exit of KVM_RUN belongs to
 *
 * @attrs: of the exit, from kvm_arch_post_run()
 *
 * KVM has memslots of address_space_memory and, for SMM, of another one with
 * other memory in some places.  It leaves with the address of a page in RAM if
 * the vCPU, or an instruction that KVM emulates, needs one that is missing.
 * Nothing but the exit itself tells which of the two it is: what has become of
 * the migration since then does not matter.
 */
static inline AddressSpace *kvm_userfault_vcpu_as(CPUState *cpu,
                                                  MemTxAttrs attrs)
{
    if (unlikely(attrs.secure)) {
        return kvm_userfault_smm_as(cpu, attrs);
    }
    return &address_space_memory;
}

/**
 * kvm_userfault_exit: is this KVM_EXIT_MEMORY_FAULT for a missing page?
 *
 * @flags: of the exit.  Others may be set beside the one that tells: for
 * private memory, and what future kernels say of an access.  The page comes
 * first; if something else is wrong, the vCPU leaves for that when it is there.
 */
static inline bool kvm_userfault_exit(uint64_t flags)
{
    return flags & KVM_MEMORY_EXIT_FLAG_USERFAULT;
}

/**
 * kvm_arch_userfault_state_pages: kvm_userfault_state_pages() for one vCPU
 *
 * @fn: called for each range that KVM touches, with a guest physical address
 *   and a number of bytes
 * @errp: says what the vCPU does that it can't be told for, and which one it is
 */
bool kvm_arch_userfault_state_pages(CPUState *cpu,
                                    void (*fn)(hwaddr gpa, hwaddr length,
                                               void *opaque),
                                    void *opaque, Error **errp);

#endif /* ACCEL_KVM_KVM_USERFAULT_H */
