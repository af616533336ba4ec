/*
 * virtio-gpu and guest RAM that is missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_GPU_POSTCOPY_H
#define HW_VIRTIO_GPU_POSTCOPY_H

#include "hw/virtio/virtio-gpu.h"

/**
 * virtio_gpu_postcopy_put_off: can't @cmd be processed yet?
 *
 * While a postcopy migration comes in and the RAM wait is on, what backs a
 * 2D resource is mapped without waiting.  A command that reads it stays at the
 * head of the command queue until the pages have come, and so does one that
 * creates or backs a resource of another kind, for not only commands read that
 * memory.  Then the control queue is notified.  Main loop, BQL held.
 */
bool virtio_gpu_postcopy_put_off(VirtIOGPU *g,
                                 struct virtio_gpu_ctrl_command *cmd);

#endif /* HW_VIRTIO_GPU_POSTCOPY_H */
