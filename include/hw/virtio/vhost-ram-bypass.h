/*
 * vhost devices get at guest memory past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_RAM_BYPASS_H
#define HW_VIRTIO_VHOST_RAM_BYPASS_H

struct vhost_dev;

/**
 * vhost_ram_bypass_register: for every vhost device, whoever it belongs to
 *
 * @opaque: what vhost_dev_init() was given.  The device is named by this, if
 * @hdev is not a part of it: vhost-user's and vhost-vdpa's is, while the
 * kernel's is a file descriptor, and nobody's address.
 *
 * Called when the backend is known and has been given no memory yet.
 * vhost_dev_cleanup() is the end of it.  Fields of @hdev->ram_bypass that the
 * owner has set before vhost_dev_init() are kept.
 *
 * Returns false, with *@errp set, while pages of guest memory may be missing.
 * Called with the BQL held.
 */
bool vhost_ram_bypass_register(struct vhost_dev *hdev, const void *opaque,
                               Error **errp);

/**
 * vhost_ram_bypass_may_start: is all guest memory there?
 *
 * Reports an error and returns false if not.
 */
bool vhost_ram_bypass_may_start(struct vhost_dev *hdev);

#endif /* HW_VIRTIO_VHOST_RAM_BYPASS_H */
