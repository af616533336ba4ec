/*
 * A failover primary that was refused is plugged when postcopy is over
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-net.h"
#include "migration/postcopy-kvm-userfault.h"
#include "net/net.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qom/object.h"
#include "standard-headers/linux/virtio_net.h"
#include "trace.h"

/*
 * virtio-net plugs the primary of its pair when the guest's features say that
 * the guest wants it, which on a migration's destination is when the device's
 * state is loaded.  A device of the host is refused then, if postcopy goes on
 * with KVM userfault.  virtio-net keeps its options, and the guest the standby
 * device, until it is over.
 */

static bool wants_primary(VirtIONet *n)
{
    return n->failover && n->primary_opts &&
           !qatomic_read(&n->failover_primary_hidden) &&
           virtio_vdev_has_feature(VIRTIO_DEVICE(n), VIRTIO_NET_F_STANDBY);
}

static int collect(Object *obj, void *opaque)
{
    VirtIONet *n = (VirtIONet *)object_dynamic_cast(obj, TYPE_VIRTIO_NET);

    if (n && DEVICE(n)->realized && wants_primary(n)) {
        g_ptr_array_add(opaque, object_ref(n));
    }
    return 0;
}

static void plug_primary(gpointer data, gpointer opaque)
{
    VirtIONet *n = data;
    Error *err = NULL;

    /* If it is there, this does nothing */
    virtio_net_failover_add_primary(n, &err);
    trace_virtio_net_postcopy_primary(n->netclient_name ?: "", !err);
    if (err) {
        warn_report_err(err);
    }
}

/* Main loop, BQL held.  Plugging changes the tree, so find them first. */
static void plug_all(Notifier *notifier, void *data)
{
    g_autoptr(GPtrArray) nets = g_ptr_array_new_with_free_func(object_unref);

    object_child_foreach_recursive(object_get_root(), collect, nets);
    g_ptr_array_foreach(nets, plug_primary, NULL);
}

static Notifier over_notifier = {
    .notify = plug_all,
};

static void virtio_net_postcopy_register(void)
{
    postcopy_kvm_userfault_add_over_notifier(&over_notifier);
}

type_init(virtio_net_postcopy_register)
