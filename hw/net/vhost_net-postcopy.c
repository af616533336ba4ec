/*
 * vhost-net comes back when a postcopy migration is over
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "hw/virtio/virtio-net.h"
#include "migration/postcopy-kvm-userfault.h"
#include "migration/postcopy-ram.h"
#include "net/net.h"
#include "net/vhost_net.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qom/object.h"
#include "system/system.h"
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
static void resume_all(void *opaque)
{
    object_child_foreach_recursive(object_get_root(), resume_vhost, NULL);
}

/*
 * The end comes in the migration's thread, without the BQL; LISTEN, in the main
 * thread, before that exists.
 */
static int postcopy_event(NotifierWithReturn *notifier, void *data,
                          Error **errp)
{
    static bool postponed;
    struct PostcopyNotifyData *pnd = data;

    if (pnd->reason == POSTCOPY_NOTIFY_INBOUND_LISTEN) {
        postponed = postcopy_kvm_userfault_active();
    }
    if (pnd->reason == POSTCOPY_NOTIFY_INBOUND_END && postponed) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), resume_all, NULL);
    }
    return 0;
}

static NotifierWithReturn postcopy_notifier = {
    .notify = postcopy_event,
};

static void machine_done(Notifier *notifier, void *data)
{
    postcopy_add_notifier(&postcopy_notifier);
}

static Notifier machine_done_notifier = {
    .notify = machine_done,
};

/*
 * The list of notifiers has no lock, so this can't wait for a device that may
 * be plugged while a migration ends.
 */
static void vhost_net_postcopy_register(void)
{
    qemu_add_machine_init_done_notifier(&machine_done_notifier);
}

type_init(vhost_net_postcopy_register)
