/*
 * KVM userfault: what the host can do, and whether it is to be used
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-common.h"
#include "system/kvm.h"
#include "system/kvm-userfault.h"
#include "kvm-userfault.h"

/* Of this host, found when the VM is created. */
static struct {
    KvmUserfaultSupport claimed;
    /* As for the real VM, for one to try it with. */
    int vm_type;
    /* KVM took slots with the flag. */
    bool tried;
} host;

static KvmUserfaultSupport check_host(KVMState *s)
{
    int bits;

    if (!kvm_check_extension(s, KVM_CAP_USER_MEMORY2)) {
        return KVM_USERFAULT_SUPPORT_NONE;
    }
    bits = kvm_vm_check_extension(s, KVM_CAP_USERFAULT);
    if (!(bits & KVM_USERFAULT_VCPU)) {
        return KVM_USERFAULT_SUPPORT_NONE;
    }
    return bits & KVM_USERFAULT_KERNEL ? KVM_USERFAULT_SUPPORT_FULL :
                                             KVM_USERFAULT_SUPPORT_VCPU;
}

static bool check_claimed(Error **errp)
{
    switch (host.claimed) {
    case KVM_USERFAULT_SUPPORT_NONE:
        error_setg(errp, "this host's KVM does not have KVM_CAP_USERFAULT; use "
                   "a kernel with the KVM userfault series, or switch "
                   "postcopy-kvm-userfault off");
        return false;
    case KVM_USERFAULT_SUPPORT_VCPU:
        error_setg(errp, "this host's KVM keeps vCPUs off missing pages but "
                   "not itself (KVM_CAP_USERFAULT lacks KVM_USERFAULT_KERNEL); "
                   "use a kernel with the whole KVM userfault series, or "
                   "switch postcopy-kvm-userfault off");
        return false;
    default:
        return true;
    }
}

/* --- What KVM takes --- */

/* Give the VM @vmfd a slot of one page at address 0.  Returns an errno. */
static int set_slot(int vmfd, void *page, size_t size, bool missing)
{
    static unsigned long bitmap = 1;
    struct kvm_userspace_memory_region2 mem = {
        .flags = missing ? KVM_MEM_USERFAULT : 0,
        .memory_size = size,
        .userspace_addr = (uintptr_t)page,
        .userfault_bitmap = missing ? (uintptr_t)&bitmap : 0,
    };

    return ioctl(vmfd, KVM_SET_USER_MEMORY_REGION2, &mem) < 0 ? errno : 0;
}

/* All that happens to the slots of a VM while a migration comes in. */
static bool try_slots(int vmfd, void *page, Error **errp)
{
    const size_t size = qemu_real_host_page_size();
    const struct {
        size_t size;
        bool missing;
        const char *what;
    } steps[] = {
        { size, false, "a memslot" },
        { size, true, "to mark a memslot's pages as missing" },
        { size, false, "to mark a memslot's pages as present" },
        { 0, false, "to delete a memslot" },
        { size, true, "a new memslot with missing pages" },
    };

    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        int err = set_slot(vmfd, page, steps[i].size, steps[i].missing);

        if (err) {
            error_setg(errp, "this host's KVM claims to have KVM_CAP_USERFAULT "
                       "but refuses %s (%s); use a kernel with the whole KVM "
                       "userfault series, or switch postcopy-kvm-userfault off",
                       steps[i].what, strerror(err));
            return false;
        }
    }
    return true;
}

/*
 * Another VM, so that whatever KVM makes of it, the guest's memory is as it
 * was.  Nothing in it runs.
 */
static bool try_vm(Error **errp)
{
    size_t size = qemu_real_host_page_size();
    void *page;
    int vmfd;
    bool ok;

    do {
        vmfd = kvm_ioctl(kvm_state, KVM_CREATE_VM, host.vm_type);
    } while (vmfd == -EINTR);
    if (vmfd < 0) {
        error_setg(errp, "this host's KVM does not create the VM with which "
                   "KVM_CAP_USERFAULT is tried (%s); switch "
                   "postcopy-kvm-userfault off", strerror(-vmfd));
        return false;
    }
    page = qemu_memalign(size, size);
    ok = try_slots(vmfd, page, errp);
    close(vmfd);
    qemu_vfree(page);
    return ok;
}

static bool check_supported(Error **errp)
{
    if (!check_claimed(errp)) {
        return false;
    }
    /* What was refused may be possible later, e.g. with more memory. */
    host.tried = host.tried || try_vm(errp);
    return host.tried;
}

/* --- What is asked for --- */

static void get_userfault(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    visit_type_OnOffAuto(v, name, &KVM_STATE(obj)->userfault, errp);
}

static void set_userfault(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    visit_type_OnOffAuto(v, name, &KVM_STATE(obj)->userfault, errp);
}

void kvm_userfault_class_init(ObjectClass *oc)
{
    object_class_property_add(oc, "userfault", "OnOffAuto", get_userfault,
                              set_userfault, NULL, NULL);
    object_class_property_set_description(oc, "userfault",
        "Whether incoming postcopy migration uses KVM instead of userfaultfd");
}

void kvm_userfault_init(KVMState *s, int vm_type)
{
    Error *err = NULL;

    host.claimed = check_host(s);
    host.vm_type = vm_type;
    if (s->userfault == ON_OFF_AUTO_ON && !check_supported(&err)) {
        error_reportf_err(err, "userfault=on: ");
        exit(EXIT_FAILURE);
    }
}

KvmUserfaultSupport kvm_userfault_host(void)
{
    return kvm_enabled() ? host.claimed : KVM_USERFAULT_SUPPORT_NONE;
}

OnOffAuto kvm_userfault_setting(void)
{
    return kvm_enabled() ? kvm_state->userfault : ON_OFF_AUTO_AUTO;
}

bool kvm_userfault_supported(Error **errp)
{
    if (!kvm_enabled()) {
        error_setg(errp, "postcopy-kvm-userfault needs the KVM accelerator; "
                   "start QEMU with '-accel kvm', or switch it off");
        return false;
    }
    return check_supported(errp);
}
