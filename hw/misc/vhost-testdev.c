/*
 * A vhost device that does nothing, for tests
 *
 * It belongs to no family of devices and is named nowhere else: what holds for
 * every vhost device holds for this one.  It calls itself an Ethernet device,
 * so that it can be the primary device of a failover pair, as one that is
 * assigned to the guest.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/vhost.h"
#include "qapi/error.h"
#include "qom/object.h"

#define TYPE_VHOST_TESTDEV "vhost-testdev"
OBJECT_DECLARE_SIMPLE_TYPE(VhostTestDev, VHOST_TESTDEV)

struct VhostTestDev {
    PCIDevice parent_obj;

    char *node;
    struct vhost_dev dev;
    struct vhost_virtqueue vq;
};

static void vhost_testdev_realize(PCIDevice *pdev, Error **errp)
{
    VhostTestDev *s = VHOST_TESTDEV(pdev);
    int fd = qemu_open(s->node, O_RDWR, errp);

    if (fd < 0) {
        return;
    }
    s->dev.vqs = &s->vq;
    s->dev.nvqs = 1;
    /* Closes the file descriptor if it fails */
    vhost_dev_init(&s->dev, (void *)(uintptr_t)fd, VHOST_BACKEND_TYPE_KERNEL, 0,
                   errp);
}

static void vhost_testdev_exit(PCIDevice *pdev)
{
    VhostTestDev *s = VHOST_TESTDEV(pdev);

    vhost_dev_cleanup(&s->dev);
}

static const Property vhost_testdev_properties[] = {
    DEFINE_PROP_STRING("node", VhostTestDev, node),
};

static void vhost_testdev_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);

    k->realize = vhost_testdev_realize;
    k->exit = vhost_testdev_exit;
    k->vendor_id = PCI_VENDOR_ID_REDHAT;
    k->device_id = PCI_DEVICE_ID_REDHAT_TEST;
    k->class_id = PCI_CLASS_NETWORK_ETHERNET;
    dc->desc = "vhost test device";
    device_class_set_props(dc, vhost_testdev_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo vhost_testdev_info = {
    .name = TYPE_VHOST_TESTDEV,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(VhostTestDev),
    .class_init = vhost_testdev_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { }
    },
};

static void vhost_testdev_register_types(void)
{
    type_register_static(&vhost_testdev_info);
}

type_init(vhost_testdev_register_types)
