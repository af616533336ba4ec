/*
 * Postcopy with KVM userfault: what in a VM it does not work with
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-types-net.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "hw/qdev-core.h"
#include "hw/xen/xen.h"
#include "migration/postcopy-kvm-userfault.h"
#include "net/net.h"
#include "net/tap.h"
#include "qom/object.h"

#define BY_PROCESS  "another process accesses guest memory for it"
#define BY_KERNEL   "the host's kernel accesses guest memory for it"
#define BY_HARDWARE "the host's hardware accesses guest memory for it"
#define OWN_MEMORY  "it has memory of its own that QEMU does not guard"
#define PERSISTENT  "its memory is written back to a file while a part of it " \
                    "is missing"
#define RESIZES     "it gives guest memory back to the host"
#define ENCRYPTED   "QEMU can't write to its memory"

#define ADVICE_VM   "remove it or switch postcopy-kvm-userfault off"
#define ADVICE_PLUG "add it when the migration has completed"

/*
 * Objects that are refused, by QOM type.  Types that QEMU is built without are
 * never found.  A type stands for those that inherit from it, and for the
 * proxies (vhost-vsock-pci) that it is a child of.  The first match counts.
 */
static const struct {
    const char *type;
    const char *why;
    /* Only if this link is set */
    const char *link;
} refused_types[] = {
    { "vhost-user-base",         BY_PROCESS },
    { "vhost-user-backend",      BY_PROCESS },
    { "vhost-user-blk",          BY_PROCESS },
    { "vhost-user-fs-device",    BY_PROCESS },
    { "vhost-user-gpu",          BY_PROCESS },
    { "vhost-user-scmi",         BY_PROCESS },
    { "vhost-user-scsi",         BY_PROCESS },
    { "vhost-user-vsock-device", BY_PROCESS },
    { "cryptodev-vhost-user",    BY_PROCESS },
    { "x-pci-proxy-dev",         BY_PROCESS },
    { "x-remote-machine",        BY_PROCESS },
    { "x-remote-object",         BY_PROCESS },
    { "x-vfio-user-server",      BY_PROCESS },
    { "ivshmem-common",          "other processes access its memory" },
    { "ivshmem-flat",            "other processes access its memory" },

    { "vhost-scsi-common",       BY_KERNEL },
    { "vhost-vsock-common",      BY_KERNEL },

    { "vhost-vdpa-device",       BY_HARDWARE },
    { "vfio-pci",                BY_HARDWARE },
    { "vfio-platform",           BY_HARDWARE },
    { "vfio-ap",                 BY_HARDWARE },
    { "vfio-ccw",                BY_HARDWARE },

    { "acpi-erst",               OWN_MEMORY },
    { "cxl-type3",               OWN_MEMORY },
    { "nvme",                    OWN_MEMORY, .link = "pmrdev" },

    { "nvdimm",                  PERSISTENT },
    { "virtio-pmem",             PERSISTENT },

    { "virtio-mem",              RESIZES },
    { "hv-balloon",              RESIZES },

    { "sgx-epc",                 ENCRYPTED },
    { "memory-backend-epc",      ENCRYPTED },
};

static void refuse(Error **errp, const char *what, const char *why,
                   const char *advice)
{
    error_setg(errp, "postcopy-kvm-userfault does not work with %s: %s; %s",
               what, why, advice);
}

/* --- Devices and other objects --- */

/* Why the object is refused, or NULL. */
static const char *object_refused(Object *obj)
{
    for (int i = 0; i < ARRAY_SIZE(refused_types); i++) {
        const char *link = refused_types[i].link;

        if (object_dynamic_cast(obj, refused_types[i].type) &&
            (!link || object_property_get_link(obj, link, NULL))) {
            return refused_types[i].why;
        }
    }
    return NULL;
}

/* The device that the user has created, if @obj is a part of one. */
static Object *object_user_sees(Object *obj)
{
    while (obj->parent && object_dynamic_cast(obj->parent, TYPE_DEVICE)) {
        obj = obj->parent;
    }
    return obj;
}

static char *object_describe(Object *obj)
{
    Object *top = object_user_sees(obj);
    const char *type = object_get_typename(top);
    g_autofree char *path = object_get_canonical_path(top);
    DeviceState *dev;

    if (object_dynamic_cast(top, TYPE_MACHINE)) {
        return g_strdup_printf("machine '%s'", type);
    }
    dev = (DeviceState *)object_dynamic_cast(top, TYPE_DEVICE);
    if (dev) {
        return g_strdup_printf("device '%s' (%s)", dev->id ?: path, type);
    }
    return g_strdup_printf("object '%s' (%s)",
                           object_get_canonical_path_component(top), type);
}

typedef struct ObjectCheck {
    const char *advice;
    Error **errp;
} ObjectCheck;

static int object_check(Object *obj, void *opaque)
{
    ObjectCheck *check = opaque;
    const char *why = object_refused(obj);
    g_autofree char *what = NULL;

    if (!why) {
        return 0;
    }
    what = object_describe(obj);
    refuse(check->errp, what, why, check->advice);
    return -1;
}

static bool objects_supported(const char *advice, Error **errp)
{
    ObjectCheck check = { .advice = advice, .errp = errp };

    return !object_child_foreach_recursive(object_get_root(), object_check,
                                           &check);
}

/* --- Network backends --- */

static bool netdev_supported(NetClientDriver type, const char *name,
                             bool vhostforce, const char *advice, Error **errp)
{
    g_autofree char *what = g_strdup_printf("network backend '%s' (%s)", name,
                                            NetClientDriver_str(type));

    switch (type) {
    case NET_CLIENT_DRIVER_VHOST_USER:
        refuse(errp, what, BY_PROCESS, advice);
        return false;
    case NET_CLIENT_DRIVER_VHOST_VDPA:
        refuse(errp, what, BY_HARDWARE, advice);
        return false;
    case NET_CLIENT_DRIVER_TAP:
        /* Without vhostforce=on, virtio-net does vhost's work meanwhile */
        if (vhostforce) {
            refuse(errp, what, "vhostforce=on keeps QEMU from handling the "
                   "queues itself", "use vhost=on instead");
            return false;
        }
        return true;
    default:
        return true;
    }
}

static bool netdevs_supported(const char *advice, Error **errp)
{
    int n = qemu_find_net_clients_except(NULL, NULL, NET_CLIENT_DRIVER_NIC, 0);
    g_autofree NetClientState **ncs = g_new(NetClientState *, n);

    qemu_find_net_clients_except(NULL, ncs, NET_CLIENT_DRIVER_NIC, n);
    for (int i = 0; i < n; i++) {
        NetClientDriver type = ncs[i]->info->type;
        bool vhostforce = type == NET_CLIENT_DRIVER_TAP &&
                          tap_get_vhostforce(ncs[i]);

        if (!netdev_supported(type, ncs[i]->name, vhostforce, advice, errp)) {
            return false;
        }
    }
    return true;
}

/* --- Memory --- */

static bool ram_block_supported(RAMBlock *rb, const char *advice, Error **errp)
{
    g_autofree char *what = g_strdup_printf("RAM block '%s'", rb->idstr);

    if (rb->guest_memfd >= 0) {
        refuse(errp, what, "it is private to the guest", advice);
        return false;
    }
    if (rb->flags & RAM_PMEM) {
        refuse(errp, what, PERSISTENT, advice);
        return false;
    }
    return true;
}

static bool memory_supported(const char *advice, Error **errp)
{
    RAMBlock *rb;

    if (xen_mode != XEN_DISABLED) {
        refuse(errp, "Xen", "Xen's code accesses guest memory unguarded",
               advice);
        return false;
    }
    if (current_machine && current_machine->cgs) {
        g_autofree char *what = object_describe(OBJECT(current_machine->cgs));

        refuse(errp, what, "guest memory is private", advice);
        return false;
    }
    WITH_RCU_READ_LOCK_GUARD() {
        RAMBLOCK_FOREACH(rb) {
            if (!ram_block_supported(rb, advice, errp)) {
                return false;
            }
        }
    }
    /* Nobody knows who it was, but those with a name have been found above */
    if (ram_block_discard_is_disabled()) {
        refuse(errp, "a device or block driver that pins guest memory, such "
               "as nvme:// or vfio", BY_HARDWARE, advice);
        return false;
    }
    return true;
}

/* --- Public functions --- */

static bool vm_supported(const char *advice, Error **errp)
{
    return objects_supported(advice, errp) &&
           netdevs_supported(advice, errp) &&
           memory_supported(advice, errp);
}

bool postcopy_kvm_userfault_vm_supported(Error **errp)
{
    return vm_supported(ADVICE_VM, errp);
}

bool postcopy_kvm_userfault_may_plug(Error **errp)
{
    /* All was well before, so it is the new device or what it uses */
    return !postcopy_kvm_userfault_active() || vm_supported(ADVICE_PLUG, errp);
}

bool postcopy_kvm_userfault_may_add_netdev(const Netdev *netdev, Error **errp)
{
    bool vhostforce = netdev->type == NET_CLIENT_DRIVER_TAP &&
                      netdev->u.tap.has_vhostforce &&
                      netdev->u.tap.vhostforce;

    return !postcopy_kvm_userfault_active() ||
           netdev_supported(netdev->type, netdev->id, vhostforce, ADVICE_PLUG,
                            errp);
}

bool postcopy_kvm_userfault_may_unplug(DeviceState *dev, Error **errp)
{
    g_autofree char *what = NULL;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_MEMORY_DEVICE)) {
        return true;
    }
    what = g_strdup_printf("Removal of memory device '%s'", dev->id ?: "");
    return postcopy_kvm_userfault_allows(what, errp);
}
