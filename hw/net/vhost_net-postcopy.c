/*
 * vhost-net comes back when a postcopy migration is over
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-net.h"
#include "migration/postcopy-kvm-userfault.h"
#include "net/net.h"
#include "net/vhost_net.h"
#include "qemu/module.h"
#include "qom/object.h"
#include "trace.h"

/*
 * vhost's kernel threads do not see which pages are missing when a postcopy
 * migration comes in with KVM userfault.  Until it has ended, virtio-net does
 * not start vhost and handles the queues itself.
 */

/*
 * A packet that the backend has yet to take is in nobody's ring index: vhost
 * must not start before it is completed.  Without DRIVER_OK virtio-net
 * completes it and does not send the next one, which may get stuck as well.
 */
static void complete_tx(VirtIONet *n)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(n);
    uint8_t status = vdev->status;

    vdev->status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
    for (int i = 0; i < n->max_queue_pairs; i++) {
        NetClientState *nc = qemu_get_subqueue(n->nic, i);

        if (n->vqs[i].async_tx.elem && nc->peer) {
            qemu_flush_or_purge_queued_packets(nc->peer, true);
        }
    }
    vdev->status = status;
}

static int resume_vhost(Object *obj, void *opaque)
{
    VirtIONet *n = (VirtIONet *)object_dynamic_cast(obj, TYPE_VIRTIO_NET);
    VirtIODevice *vdev;

    if (!n || !DEVICE(n)->realized || n->vhost_started ||
        !get_vhost_net(qemu_get_queue(n->nic)->peer)) {
        return 0;
    }
    vdev = VIRTIO_DEVICE(n);
    /* If the guest or the VM's state don't want it now, this does nothing */
    if (vdev->vm_running && (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        complete_tx(n);
    }
    VIRTIO_DEVICE_GET_CLASS(vdev)->set_status(vdev, vdev->status);
    trace_vhost_net_postcopy_resume(n->netclient_name ?: "", n->vhost_started);
    return 0;
}

/* Main loop, BQL held: the devices are what they are now, not at the end. */
static void resume_all(Notifier *notifier, void *data)
{
    object_child_foreach_recursive(object_get_root(), resume_vhost, NULL);
}

static Notifier over_notifier = {
    .notify = resume_all,
};

static void vhost_net_postcopy_register(void)
{
    postcopy_kvm_userfault_add_over_notifier(&over_notifier);
}

type_init(vhost_net_postcopy_register)
