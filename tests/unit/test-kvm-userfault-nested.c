/*
 * Nested states, and whether KVM reads guest memory to take them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "target/i386/kvm/kvm-userfault-nested.h"

#define NONE (-1ull)
#define VMXON 0x1000
#define VMCS12 0x2000

#define NESTED_GUEST "runs a nested guest"
#define EVMCS "has an enlightened VMCS"

/* As KVM_GET_NESTED_STATE fills them in, by hand. */
typedef struct State {
    const char *name;
    const char *expected;
    uint16_t format;
    uint16_t flags;
    uint64_t vmxon_pa;
    uint64_t vmcs12_pa;
    uint16_t smm;
} State;

#define SVM(NAME, EXPECTED, FLAGS) \
    { NAME, EXPECTED, KVM_STATE_NESTED_FORMAT_SVM, FLAGS, 0, 0, 0 }
#define VMX(NAME, EXPECTED, FLAGS, ...) \
    { NAME, EXPECTED, KVM_STATE_NESTED_FORMAT_VMX, FLAGS, __VA_ARGS__ }

#define GUEST_MODE KVM_STATE_NESTED_GUEST_MODE
#define PENDING (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING)
#define MTF (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_MTF_PENDING)
#define SMM_VMXON KVM_STATE_NESTED_SMM_VMXON
#define SMM_GUEST (KVM_STATE_NESTED_SMM_VMXON | KVM_STATE_NESTED_SMM_GUEST_MODE)

static const State states[] = {
    SVM("svm/reset", NULL, KVM_STATE_NESTED_GIF_SET),
    SVM("svm/no-gif", NULL, 0),
    SVM("svm/guest", NESTED_GUEST, GUEST_MODE | KVM_STATE_NESTED_GIF_SET),
    SVM("svm/guest-no-gif", NESTED_GUEST, GUEST_MODE),
    SVM("svm/run-pending", NESTED_GUEST, PENDING | KVM_STATE_NESTED_GIF_SET),

    VMX("vmx/off", NULL, 0, NONE, NONE, 0),
    VMX("vmx/on", NULL, 0, VMXON, NONE, 0),
    VMX("vmx/on-at-0", NULL, 0, 0, NONE, 0),
    VMX("vmx/vmcs-loaded", NULL, 0, VMXON, VMCS12, 0),
    VMX("vmx/guest", NESTED_GUEST, GUEST_MODE, VMXON, VMCS12, 0),
    VMX("vmx/run-pending", NESTED_GUEST, PENDING, VMXON, VMCS12, 0),
    VMX("vmx/mtf-pending", NESTED_GUEST, MTF, VMXON, VMCS12, 0),

    VMX("vmx/smm", NULL, 0, VMXON, NONE, SMM_VMXON),
    VMX("vmx/smm-vmcs-loaded", NULL, 0, VMXON, VMCS12, SMM_VMXON),
    VMX("vmx/smm-guest", NULL, 0, VMXON, VMCS12, SMM_GUEST),

    VMX("vmx/evmcs", EVMCS, KVM_STATE_NESTED_EVMCS, VMXON, NONE, 0),
    VMX("vmx/evmcs-guest", NESTED_GUEST, GUEST_MODE | KVM_STATE_NESTED_EVMCS,
        VMXON, NONE, 0),
    VMX("vmx/evmcs-smm-guest", EVMCS, KVM_STATE_NESTED_EVMCS, VMXON, NONE,
        SMM_GUEST),
    /* What QEMU once set to have the capability. */
    VMX("vmx/evmcs-off", NULL, KVM_STATE_NESTED_EVMCS, NONE, NONE, 0),
};

static void test_state(const void *opaque)
{
    const State *s = opaque;
    struct kvm_nested_state state = {
        .format = s->format,
        .flags = s->flags,
        .size = sizeof(state),
    };

    if (s->format == KVM_STATE_NESTED_FORMAT_VMX) {
        state.hdr.vmx.vmxon_pa = s->vmxon_pa;
        state.hdr.vmx.vmcs12_pa = s->vmcs12_pa;
        state.hdr.vmx.smm.flags = s->smm;
    } else {
        state.hdr.svm.vmcb_pa = s->flags & GUEST_MODE ? VMCS12 : 0;
    }
    g_assert_cmpstr(kvm_userfault_nested(&state), ==, s->expected);
}

/* The CPU can't run guests. */
static void test_none(void)
{
    g_assert_null(kvm_userfault_nested(NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kvm-userfault-nested/none", test_none);
    for (int i = 0; i < ARRAY_SIZE(states); i++) {
        g_autofree char *path = g_strconcat("/kvm-userfault-nested/",
                                            states[i].name, NULL);

        g_test_add_data_func(path, &states[i], test_state);
    }
    return g_test_run();
}
