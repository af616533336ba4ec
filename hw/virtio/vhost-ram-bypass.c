/*
 * vhost devices get at guest memory past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-ram-bypass.h"
#include "qapi/error.h"
#include "qemu/error-report.h"

static const char *const reasons[VHOST_BACKEND_TYPE_MAX] = {
    [VHOST_BACKEND_TYPE_KERNEL] = RAM_BYPASS_KERNEL,
    [VHOST_BACKEND_TYPE_USER] = RAM_BYPASS_PROCESS,
    [VHOST_BACKEND_TYPE_VDPA] = RAM_BYPASS_HARDWARE,
};

bool vhost_ram_bypass_register(struct vhost_dev *hdev, const void *opaque,
                               Error **errp)
{
    RAMBypass *bypass = &hdev->ram_bypass;

    if (!bypass->why) {
        bypass->why = reasons[hdev->vhost_ops->backend_type];
    }
    if (!bypass->part) {
        bypass->part = opaque;
    }
    return ram_bypass_register(bypass, errp);
}

bool vhost_ram_bypass_may_start(struct vhost_dev *hdev)
{
    Error *err = NULL;

    if (ram_bypass_may_start(&hdev->ram_bypass, &err)) {
        return true;
    }
    error_report_err(err);
    return false;
}
