/*
 * Virtqueues that do not wait for guest RAM that is missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_POSTCOPY_H
#define HW_VIRTIO_POSTCOPY_H

#include "exec/hwaddr.h"
#include "hw/virtio/virtio.h"
#include "system/ram-wait.h"

/*
 * While a postcopy migration comes in and the RAM wait is on, a virtqueue
 * whose next element has pages that are missing is *put off*: the pages are
 * requested together, virtqueue_pop() and virtio_queue_empty() say that it is
 * empty, and nothing in it has changed.  When the pages have come it is
 * notified in the main loop, as if the guest had kicked it.  So nobody waits,
 * and a device that takes elements until there are none needs nothing else.
 *
 * What is put off belongs to who may pop: the device's thread for that queue.
 * Resetting or deleting the queue, with the BQL held and that thread out of it,
 * takes it back.  No lock is needed but the RAM wait's.
 */

/* One load, and false but for an incoming postcopy migration. */
static inline bool virtio_postcopy_active(void)
{
    return unlikely(qatomic_read(&ram_wait_active));
}

/**
 * virtio_postcopy_ready: can the next elements be popped without waiting?
 *
 * Looks at the next element, and at more of them until they have @in_bytes for
 * the device to write and @out_bytes to read, or the queue ends.  If pages are
 * missing the queue is put off.  What is wrong with an element is left for
 * virtqueue_pop() to find.
 *
 * Called by who may pop, if virtio_postcopy_active().
 */
bool virtio_postcopy_ready(VirtIODevice *vdev, VirtQueue *vq,
                           unsigned int in_bytes, unsigned int out_bytes);

/* Are pages or messages still to come?  By who may pop. */
bool virtio_postcopy_waits(VirtQueuePutOff *put_off);

/* The same, for a device to which NULL from virtqueue_pop() is an error. */
bool virtio_postcopy_put_off(VirtQueue *vq);

/**
 * virtio_postcopy_cancel: the queue is reset or goes away
 *
 * Called with the BQL held.
 */
void virtio_postcopy_cancel(VirtQueue *vq);

/* The VM runs again: run what became ready meanwhile.  BQL held. */
void virtio_postcopy_resume(VirtIODevice *vdev);

/**
 * virtio_postcopy_rings_missing: can't the rings be mapped yet?
 *
 * If pages of queue @n's rings are missing, virtio_init_region_cache() is
 * called again when they have come, and the queue is notified.  Until then it
 * has no caches, as if the guest had not given it rings.  BQL held.
 */
bool virtio_postcopy_rings_missing(VirtIODevice *vdev, int n);

/**
 * virtio_postcopy_load_rings: get the rings of queues 0 to @num - 1
 *
 * virtio_load() looks into the rings.  All of them are requested together; the
 * incoming migration's coroutine yields.  Not in an RCU critical section.
 */
void coroutine_mixed_fn virtio_postcopy_load_rings(VirtIODevice *vdev, int num);

/* The same for the buffers of an element that was popped on the source. */
void coroutine_mixed_fn virtio_postcopy_load_element(VirtIODevice *vdev,
                                                     VirtQueueElement *elem);

/* The same for @count buffers at @addr[], as long as @iov[] says. */
void coroutine_mixed_fn virtio_postcopy_load_buffers(VirtIODevice *vdev,
                                                     const uint64_t *addr,
                                                     const struct iovec *iov,
                                                     unsigned int count,
                                                     bool is_write);

/**
 * virtio_postcopy_send_later: keep messages for the guest
 *
 * For devices that send by themselves and drop what the guest has no buffer
 * for.  If the queue is put off, @count messages of @len bytes at @buf, @stride
 * bytes apart, are copied.  The guest gets each of them in an element when the
 * pages have come, after what was kept before.  Call it before virtqueue_pop(),
 * to keep the order, and again if that returns NULL.
 *
 * Returns false, and keeps none, if the queue is not put off, or there would
 * be more of them than the queue can have buffers.  Main loop, BQL held.
 */
bool virtio_postcopy_send_later(VirtIODevice *vdev, VirtQueue *vq,
                                const void *buf, size_t len, size_t stride,
                                unsigned int count);

/**
 * virtio_postcopy_return_all: give all elements back, untouched
 *
 * Neither their memory nor indirect tables are looked at.  Returns false, and
 * does nothing, unless virtio_postcopy_active().
 */
bool virtio_postcopy_return_all(VirtIODevice *vdev, VirtQueue *vq);

/**
 * virtio_postcopy_hold_begin: a popped element needs more memory
 *
 * For a device whose elements tell where in guest RAM it has to read, and which
 * keeps an element until it can.  Add the ranges, and call
 * virtio_postcopy_hold_end(): if that returns true, pages are missing and @vq
 * is put off.  The element can be tried again when the queue is notified, also
 * while the VM is stopped.
 *
 * Returns NULL if nothing can be missing.  By who may pop, in the main loop.
 */
typedef struct VirtIOPostcopyHold VirtIOPostcopyHold;

VirtIOPostcopyHold *virtio_postcopy_hold_begin(VirtIODevice *vdev,
                                               VirtQueue *vq);

/* Memory at guest physical, or IOMMU, address @addr. */
void virtio_postcopy_hold_range(VirtIOPostcopyHold *hold, hwaddr addr,
                                hwaddr len);

/* @len bytes from @offset on of what is mapped at @iov. */
void virtio_postcopy_hold_iov(VirtIOPostcopyHold *hold,
                              const struct iovec *iov, unsigned int iov_cnt,
                              size_t offset, size_t len);

bool virtio_postcopy_hold_end(VirtIOPostcopyHold *hold);

/* Is @vq put off by virtio_postcopy_hold_end()? */
bool virtio_postcopy_held(VirtQueue *vq);

/**
 * virtio_postcopy_map: dma_memory_map() for reading, without waiting
 *
 * Who reads through the mapping calls virtio_postcopy_wait_iov() first.  Unmap
 * it with dma_memory_unmap().
 */
void *virtio_postcopy_map(VirtIODevice *vdev, hwaddr addr, hwaddr *len);

/**
 * virtio_postcopy_wait_iov: wait as in ram_wait_for()
 *
 * For @len bytes from @offset on of what is mapped at @iov.  Nobody waits if
 * the same range was given to virtio_postcopy_hold_iov() before.
 */
void virtio_postcopy_wait_iov(const struct iovec *iov, unsigned int iov_cnt,
                              size_t offset, size_t len);

#endif /* HW_VIRTIO_POSTCOPY_H */
