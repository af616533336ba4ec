/*
 * KVM userfault: nested states for which KVM reads guest memory
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_KVM_USERFAULT_NESTED_H
#define TARGET_I386_KVM_KVM_USERFAULT_NESTED_H

struct kvm_nested_state;

/**
 * kvm_userfault_nested: does KVM need guest memory to take this nested state?
 *
 * @state: what KVM_SET_NESTED_STATE will be given, or NULL
 *
 * Which pages that would be is not known here: those that a control block
 * points to, and what these point to.
 *
 * Returns NULL if it does not, or else what the vCPU does, for a message: "runs
 * a nested guest", "has an enlightened VMCS".
 */
const char *kvm_userfault_nested(const struct kvm_nested_state *state);

#endif /* TARGET_I386_KVM_KVM_USERFAULT_NESTED_H */
