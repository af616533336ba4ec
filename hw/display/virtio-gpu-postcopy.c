/*
 * virtio-gpu and guest RAM that is missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "hw/virtio/virtio-gpu.h"
#include "hw/virtio/virtio-gpu-bswap.h"
#include "hw/virtio/virtio-gpu-pixman.h"
#include "hw/virtio/virtio-gpu-postcopy.h"
#include "hw/virtio/virtio-postcopy.h"

/*
 * The guest can change a command between the look at it here and its
 * processing.  Then whoever reads it waits.
 */

static size_t get_cmd(const struct virtio_gpu_ctrl_command *cmd, size_t offset,
                      void *buf, size_t len)
{
    return iov_to_buf(cmd->elem.out_sg, cmd->elem.out_num, offset, buf, len);
}

/* What virtio_gpu_transfer_to_host_2d() reads. */
static void add_transfer(VirtIOGPU *g, VirtIOPostcopyHold *hold,
                         const struct virtio_gpu_ctrl_command *cmd)
{
    struct virtio_gpu_transfer_to_host_2d t2d;
    struct virtio_gpu_simple_resource *res;
    uint32_t stride, bpp;

    if (get_cmd(cmd, 0, &t2d, sizeof(t2d)) != sizeof(t2d)) {
        return;
    }
    virtio_gpu_t2d_bswap(&t2d);
    res = virtio_gpu_find_resource(g, t2d.resource_id);
    if (!res || !res->image || !res->iov ||
        t2d.r.width > res->width || t2d.r.height > res->height) {
        return;
    }
    stride = pixman_image_get_stride(res->image);
    bpp = DIV_ROUND_UP(PIXMAN_FORMAT_BPP(pixman_image_get_format(res->image)),
                       8);
    if (!t2d.r.x && t2d.r.width == res->width) {
        virtio_postcopy_hold_iov(hold, res->iov, res->iov_cnt, t2d.offset,
                                 (size_t)stride * t2d.r.height);
        return;
    }
    for (uint32_t h = 0; h < t2d.r.height; h++) {
        virtio_postcopy_hold_iov(hold, res->iov, res->iov_cnt,
                                 t2d.offset + (size_t)stride * h,
                                 t2d.r.width * bpp);
    }
}

/* What virtio_gpu_create_mapping_iov() maps. */
static void add_entries(VirtIOPostcopyHold *hold,
                        const struct virtio_gpu_ctrl_command *cmd,
                        uint32_t nr, size_t offset)
{
    struct virtio_gpu_mem_entry entry;

    for (uint32_t i = 0; i < MIN(nr, 16384); i++) {
        if (get_cmd(cmd, offset + i * sizeof(entry), &entry,
                    sizeof(entry)) != sizeof(entry)) {
            return;
        }
        virtio_postcopy_hold_range(hold, le64_to_cpu(entry.addr),
                                   le32_to_cpu(entry.length));
    }
}

static void add_attach(VirtIOGPU *g, VirtIOPostcopyHold *hold,
                       const struct virtio_gpu_ctrl_command *cmd)
{
    struct virtio_gpu_resource_attach_backing ab;
    struct virtio_gpu_simple_resource *res;

    if (get_cmd(cmd, 0, &ab, sizeof(ab)) != sizeof(ab)) {
        return;
    }
    virtio_gpu_bswap_32(&ab, sizeof(ab));
    res = virtio_gpu_find_resource(g, ab.resource_id);
    /* Only commands read what backs an image. */
    if (res && !res->image) {
        add_entries(hold, cmd, ab.nr_entries, sizeof(ab));
    }
}

static void add_blob(VirtIOPostcopyHold *hold,
                     const struct virtio_gpu_ctrl_command *cmd)
{
    struct virtio_gpu_resource_create_blob cblob;

    if (get_cmd(cmd, 0, &cblob, sizeof(cblob)) == sizeof(cblob)) {
        virtio_gpu_create_blob_bswap(&cblob);
        add_entries(hold, cmd, cblob.nr_entries, sizeof(cblob));
    }
}

bool virtio_gpu_postcopy_put_off(VirtIOGPU *g,
                                 struct virtio_gpu_ctrl_command *cmd)
{
    struct virtio_gpu_ctrl_hdr hdr;
    VirtIOPostcopyHold *hold;

    /* If so, by this command */
    if (virtio_postcopy_held(cmd->vq)) {
        return true;
    }
    hold = virtio_postcopy_hold_begin(VIRTIO_DEVICE(g), cmd->vq);
    if (!hold) {
        return false;
    }
    if (get_cmd(cmd, 0, &hdr, sizeof(hdr)) == sizeof(hdr)) {
        virtio_gpu_ctrl_hdr_bswap(&hdr);
        switch (hdr.type) {
        case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
            add_transfer(g, hold, cmd);
            break;
        case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
            add_attach(g, hold, cmd);
            break;
        case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
            add_blob(hold, cmd);
            break;
        }
    }
    return virtio_postcopy_hold_end(hold);
}
