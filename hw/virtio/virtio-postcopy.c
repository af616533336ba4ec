/*
 * Virtqueues that do not wait for guest RAM that is missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "hw/qdev-core.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-postcopy.h"
#include "migration/postcopy-gate.h"
#include "standard-headers/linux/virtio_ring.h"
#include "system/dma.h"
#include "trace.h"

/*
 * Pages that a queue asks for at once.  An element with more, which is 16 MB
 * and no device's, is looked at again when these have come.
 */
#define MAX_PAGES 4096

/*
 * When a queue is put off, as many pages of the elements behind are requested
 * as well: they are next.
 */
#define SOON_PAGES 64

struct VirtQueuePutOff {
    VirtIODevice *vdev;
    VirtQueue *vq;
    /* Closed while the queue is put off. */
    PostcopyGate *gate;
    /* Runs the queue in the main loop. */
    QEMUBH *bh;
    /* The gate is for the rings, which are not mapped yet. */
    bool rings;
    /* The gate is for an element that the device has popped. */
    bool held;
    /* GBytes that the device would have sent, oldest first; BQL. */
    GQueue messages;
    bool sending;
};

static void run_queue(void *opaque);

static int queue_index(VirtQueue *vq)
{
    return virtio_get_queue_index(vq);
}

/* --- What a queue waits for --- */

static VirtQueuePutOff *get_put_off(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtQueuePutOff **slot = virtio_queue_put_off(vq);

    if (!*slot) {
        VirtQueuePutOff *p = g_new0(VirtQueuePutOff, 1);

        p->vdev = vdev;
        p->vq = vq;
        p->gate = postcopy_gate_new();
        g_queue_init(&p->messages);
        /*
         * Where the main loop's own handlers of virtqueues run: not in a
         * nested aio_poll().
         */
        p->bh = aio_bh_new(iohandler_get_aio_context(), run_queue, p);
        /* Pairs with virtio_postcopy_resume(). */
        qatomic_store_release(slot, p);
    }
    return *slot;
}

bool virtio_postcopy_waits(VirtQueuePutOff *p)
{
    return !postcopy_gate_is_open(p->gate) || p->rings ||
           (!p->sending && !g_queue_is_empty(&p->messages));
}

bool virtio_postcopy_put_off(VirtQueue *vq)
{
    VirtQueuePutOff *p = *virtio_queue_put_off(vq);

    return p && virtio_postcopy_waits(p);
}

/* In any thread, with a bucket's lock of the RAM wait held. */
static void gate_opened(void *opaque)
{
    VirtQueuePutOff *p = opaque;

    qemu_bh_schedule(p->bh);
}

/* Returns false if the pages have come meanwhile. */
static bool put_off(VirtQueuePutOff *p, const char *what)
{
    size_t pages = postcopy_gate_pages(p->gate);

    if (!postcopy_gate_close(p->gate, gate_opened, p)) {
        return false;
    }
    postcopy_gate_count_put_off();
    trace_virtio_postcopy_put_off(p->vdev->name, queue_index(p->vq), what,
                                  pages);
    return true;
}

void virtio_postcopy_cancel(VirtQueue *vq)
{
    VirtQueuePutOff **slot = virtio_queue_put_off(vq);
    VirtQueuePutOff *p = *slot;

    if (!p) {
        return;
    }
    qatomic_set(slot, NULL);
    /* First, so that nobody schedules the bottom half. */
    postcopy_gate_reset(p->gate);
    qemu_bh_delete(p->bh);
    postcopy_gate_free(p->gate);
    g_queue_clear_full(&p->messages, (GDestroyNotify)g_bytes_unref);
    g_free(p);
}

/* --- Which pages are missing --- */

/* Where missing pages go: to @gate, or to the gate that @vq then gets. */
typedef struct Look {
    VirtIODevice *vdev;
    PostcopyGate *gate;
    VirtQueue *vq;
} Look;

static PostcopyGate *look_gate(Look *look)
{
    if (!look->gate) {
        look->gate = get_put_off(look->vdev, look->vq)->gate;
    }
    return look->gate;
}

static size_t look_pages(const Look *look)
{
    return look->gate ? postcopy_gate_pages(look->gate) : 0;
}

/* Returns false if a page is missing.  In an RCU critical section. */
static bool look_at_block(Look *look, RAMBlock *rb, ram_addr_t offset,
                          ram_addr_t len)
{
    const size_t page_size = qemu_target_page_size();
    ram_addr_t end = MIN(offset + len, rb->postcopy_length);
    bool present = true;

    for (offset = ROUND_DOWN(offset, page_size); offset < end;
         offset += page_size) {
        if (!ram_wait_page_missing(rb, offset)) {
            continue;
        }
        present = false;
        if (look_pages(look) >= MAX_PAGES) {
            break;
        }
        postcopy_gate_add(look_gate(look), rb, offset);
    }
    return present;
}

/* The same; what is not RAM can't be missing. */
static bool look_at(Look *look, hwaddr addr, hwaddr len, bool is_write)
{
    bool present = true;

    while (len && look_pages(look) < MAX_PAGES) {
        hwaddr part = len, xlat;
        MemoryRegion *mr = address_space_translate(look->vdev->dma_as, addr,
                                                   &xlat, &part, is_write,
                                                   MEMTXATTRS_UNSPECIFIED);

        if (!part) {
            break;
        }
        if (mr->ram_block) {
            present &= look_at_block(look, mr->ram_block, xlat, part);
        }
        addr += part;
        len -= part;
    }
    return present;
}

/* --- Which memory an element has --- */

typedef struct Desc {
    hwaddr addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
} Desc;

/* Both formats have the address and the length at the same place. */
QEMU_BUILD_BUG_ON(sizeof(struct vring_desc) !=
                  sizeof(struct vring_packed_desc));

/* Returns false if the descriptor is missing. */
static bool read_desc(Look *look, hwaddr table, unsigned int i, bool packed,
                      Desc *desc)
{
    hwaddr pa = table + i * sizeof(struct vring_desc);
    VirtIODevice *vdev = look->vdev;

    if (!look_at(look, pa, sizeof(struct vring_desc), false)) {
        return false;
    }
    if (packed) {
        desc->flags = virtio_lduw_phys(
            vdev, pa + offsetof(struct vring_packed_desc, flags));
        /* As in virtqueue_pop(): the flags tell that the rest is valid. */
        smp_rmb();
        desc->next = 0;
    } else {
        desc->flags = virtio_lduw_phys(
            vdev, pa + offsetof(struct vring_desc, flags));
        desc->next = virtio_lduw_phys(
            vdev, pa + offsetof(struct vring_desc, next));
    }
    desc->addr = virtio_ldq_phys(vdev, pa + offsetof(struct vring_desc, addr));
    desc->len = virtio_ldl_phys(vdev, pa + offsetof(struct vring_desc, len));
    return true;
}

/* Goes from element to element. */
typedef struct Walk {
    Look look;
    bool packed;
    hwaddr ring;
    hwaddr avail;
    unsigned int num;
    /* The next element: index into the ring, wrap counter if packed */
    uint16_t idx;
    bool wrap;
    /* How many there were; a queue does not have more than it has entries. */
    unsigned int elements;
    /* What the elements have. */
    uint64_t in_bytes;
    uint64_t out_bytes;
} Walk;

typedef enum WalkResult {
    WALK_PRESENT,
    WALK_MISSING,
    /* There is no element, or something is wrong with it. */
    WALK_END,
} WalkResult;

static void walk_begin(Walk *walk, VirtIODevice *vdev, VirtQueue *vq)
{
    int n = queue_index(vq);
    unsigned int last = virtio_queue_get_last_avail_idx(vdev, n);

    *walk = (Walk) {
        .look = { .vdev = vdev, .vq = vq },
        .packed = virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED),
        .ring = virtio_queue_get_desc_addr(vdev, n),
        .avail = virtio_queue_get_avail_addr(vdev, n),
        .num = virtio_queue_get_num(vdev, n),
    };
    walk->idx = walk->packed ? last & 0x7fff : last;
    walk->wrap = last & 0x8000;
}

static bool packed_desc_avail(const Walk *walk, uint16_t flags)
{
    bool avail = flags & (1 << VRING_PACKED_DESC_F_AVAIL);
    bool used = flags & (1 << VRING_PACKED_DESC_F_USED);

    return avail != used && avail == walk->wrap;
}

/* The index of the descriptor at which the next element of a split ring is. */
static WalkResult split_head(Walk *walk, unsigned int *head)
{
    VirtIODevice *vdev = walk->look.vdev;
    hwaddr idx = walk->avail + offsetof(struct vring_avail, idx);
    hwaddr slot = walk->avail + offsetof(struct vring_avail, ring) +
                  walk->idx % walk->num * sizeof(uint16_t);

    if (!look_at(&walk->look, idx, sizeof(uint16_t), false) ||
        !look_at(&walk->look, slot, sizeof(uint16_t), false)) {
        return WALK_MISSING;
    }
    if (virtio_lduw_phys(vdev, idx) == walk->idx) {
        return WALK_END;
    }
    /* As in virtqueue_pop(): the index tells that the rest is valid. */
    smp_rmb();
    *head = virtio_lduw_phys(vdev, slot);
    return *head < walk->num ? WALK_PRESENT : WALK_END;
}

static WalkResult walk_head(Walk *walk, unsigned int *head, Desc *desc)
{
    WalkResult result = WALK_PRESENT;

    if (walk->elements++ >= walk->num) {
        return WALK_END;
    }
    *head = walk->idx;
    if (!walk->packed) {
        result = split_head(walk, head);
    }
    if (result != WALK_PRESENT) {
        return result;
    }
    if (!read_desc(&walk->look, walk->ring, *head, walk->packed, desc)) {
        return WALK_MISSING;
    }
    return walk->packed && !packed_desc_avail(walk, desc->flags) ?
           WALK_END : WALK_PRESENT;
}

/* Where the descriptors of an element are. */
typedef struct Table {
    hwaddr addr;
    unsigned int max;
    bool indirect;
    unsigned int i;
} Table;

/* Go on to the descriptor behind @desc; false if it is the last one. */
static bool table_next(const Walk *walk, Table *table, const Desc *desc)
{
    if (walk->packed && table->indirect) {
        return ++table->i < table->max;
    }
    if (!(desc->flags & VRING_DESC_F_NEXT)) {
        return false;
    }
    if (walk->packed) {
        table->i = (table->i + 1) % table->max;
    } else {
        table->i = desc->next;
    }
    return table->i < table->max;
}

static bool look_at_buffer(Walk *walk, const Desc *desc)
{
    bool is_write = desc->flags & VRING_DESC_F_WRITE;

    if (is_write) {
        walk->in_bytes += desc->len;
    } else {
        walk->out_bytes += desc->len;
    }
    return look_at(&walk->look, desc->addr, desc->len, is_write);
}

static void walk_next(Walk *walk, unsigned int ndescs)
{
    if (!walk->packed) {
        walk->idx++;
        return;
    }
    walk->idx += ndescs;
    if (walk->idx >= walk->num) {
        walk->idx -= walk->num;
        walk->wrap = !walk->wrap;
    }
}

/*
 * Look at the next element, and go to the one behind.  An element whose
 * descriptors are missing is not left.
 */
static WalkResult walk_element(Walk *walk)
{
    Table table = { .addr = walk->ring, .max = walk->num };
    unsigned int ndescs = 0;
    bool present = true;
    WalkResult result;
    Desc desc;

    result = walk_head(walk, &table.i, &desc);
    if (result != WALK_PRESENT) {
        return result;
    }
    if (desc.flags & VRING_DESC_F_INDIRECT) {
        /* All of it: virtqueue_pop() maps all of it. */
        if (!look_at(&walk->look, desc.addr, desc.len, false)) {
            return WALK_MISSING;
        }
        table = (Table) {
            .addr = desc.addr,
            .max = desc.len / sizeof(struct vring_desc),
            .indirect = true,
        };
        if (!table.max) {
            return WALK_END;
        }
        if (!read_desc(&walk->look, table.addr, 0, walk->packed, &desc)) {
            return WALK_MISSING;
        }
    }
    /* Longer ones are refused by virtqueue_pop(). */
    while (ndescs++ < VIRTQUEUE_MAX_SIZE) {
        present &= look_at_buffer(walk, &desc);
        if (!table_next(walk, &table, &desc)) {
            break;
        }
        if (!read_desc(&walk->look, table.addr, table.i, walk->packed, &desc)) {
            return WALK_MISSING;
        }
    }
    walk_next(walk, table.indirect ? 1 : ndescs);
    return present ? WALK_PRESENT : WALK_MISSING;
}

/* Request some of what comes next; nobody waits for it. */
static void look_ahead(Walk *walk)
{
    size_t max = look_pages(&walk->look) + SOON_PAGES;
    uint16_t idx;

    postcopy_gate_soon(look_gate(&walk->look));
    do {
        idx = walk->idx;
    } while (look_pages(&walk->look) < max && walk_element(walk) != WALK_END &&
             walk->idx != idx);
}

/* --- Taking elements --- */

/* Returns false, with all that is missing in the queue's gate. */
static bool look_at_elements(Walk *walk, unsigned int in_bytes,
                             unsigned int out_bytes)
{
    WalkResult result;
    bool present = true;
    uint16_t idx;

    do {
        idx = walk->idx;
        result = walk_element(walk);
        present &= result != WALK_MISSING;
    } while (result != WALK_END && walk->idx != idx &&
             (walk->in_bytes < in_bytes || walk->out_bytes < out_bytes));
    return present;
}

bool virtio_postcopy_ready(VirtIODevice *vdev, VirtQueue *vq,
                           unsigned int in_bytes, unsigned int out_bytes)
{
    VirtQueuePutOff *p = *virtio_queue_put_off(vq);
    Walk walk;

    if (p && virtio_postcopy_waits(p)) {
        return false;
    }
    if (!virtio_queue_get_desc_addr(vdev, queue_index(vq))) {
        return true;
    }

    RCU_READ_LOCK_GUARD();
    do {
        if (p) {
            postcopy_gate_reset(p->gate);
        }
        walk_begin(&walk, vdev, vq);
        if (look_at_elements(&walk, in_bytes, out_bytes)) {
            return true;
        }
        look_ahead(&walk);
        p = get_put_off(vdev, vq);
        p->held = false;
    } while (!put_off(p, "element"));
    return false;
}

/* Give kept messages to the guest, as far as that goes. */
static void send_messages(VirtQueuePutOff *p)
{
    bool sent = false;

    p->sending = true;
    while (!g_queue_is_empty(&p->messages)) {
        GBytes *message = g_queue_peek_head(&p->messages);
        VirtQueueElement *elem = virtqueue_pop(p->vq, sizeof(*elem));
        size_t len;

        if (!elem && !postcopy_gate_is_open(p->gate)) {
            break;
        }
        /* Without a buffer they are lost, as they would have been. */
        if (elem) {
            len = iov_from_buf(elem->in_sg, elem->in_num, 0,
                               g_bytes_get_data(message, NULL),
                               g_bytes_get_size(message));
            virtqueue_push(p->vq, elem, len);
            g_free(elem);
            sent = true;
        }
        g_bytes_unref(g_queue_pop_head(&p->messages));
    }
    p->sending = false;
    if (sent) {
        virtio_notify(p->vdev, p->vq);
    }
}

static void map_rings(VirtQueuePutOff *p)
{
    p->rings = false;
    virtio_init_region_cache(p->vdev, queue_index(p->vq));
    /* What could not be written to the rings before. */
    virtio_queue_set_notification(p->vq, virtio_queue_get_notification(p->vq));
}

/*
 * A bottom half of the main loop, BQL held.  Queues are reset and deleted, and
 * host notifiers come and go, with the BQL held as well.
 */
static void run_queue(void *opaque)
{
    VirtQueuePutOff *p = opaque;
    VirtIODevice *vdev = p->vdev;
    VirtQueue *vq = p->vq;

    if (!DEVICE(vdev)->realized || !postcopy_gate_is_open(p->gate)) {
        return;
    }
    if (p->rings) {
        map_rings(p);
    }
    /* If not now, then in virtio_postcopy_resume(). */
    if (!vdev->vm_running && !p->held) {
        return;
    }
    trace_virtio_postcopy_run(vdev->name, queue_index(vq));
    send_messages(p);
    /* The device may do anything, so that @p may be gone after it. */
    virtio_queue_notify(vdev, queue_index(vq));
}

void virtio_postcopy_resume(VirtIODevice *vdev)
{
    for (int n = 0; n < VIRTIO_QUEUE_MAX; n++) {
        VirtQueuePutOff **slot =
            virtio_queue_put_off(virtio_get_queue(vdev, n));
        VirtQueuePutOff *p = qatomic_load_acquire(slot);

        if (p) {
            qemu_bh_schedule(p->bh);
        }
    }
}

bool virtio_postcopy_send_later(VirtIODevice *vdev, VirtQueue *vq,
                                const void *buf, size_t len, size_t stride,
                                unsigned int count)
{
    VirtQueuePutOff *p = *virtio_queue_put_off(vq);
    unsigned int max = virtio_queue_get_num(vdev, queue_index(vq));

    if (!p || !virtio_postcopy_waits(p) || p->messages.length + count > max) {
        return false;
    }
    for (unsigned int i = 0; i < count; i++) {
        g_queue_push_tail(&p->messages, g_bytes_new(buf + i * stride, len));
    }
    return true;
}

bool virtio_postcopy_return_all(VirtIODevice *vdev, VirtQueue *vq)
{
    if (!virtio_postcopy_active()) {
        return false;
    }
    do {
        unsigned int returned = virtqueue_drop_all(vq);

        if (returned) {
            trace_virtio_postcopy_return(vdev->name, queue_index(vq),
                                         returned);
            virtio_notify(vdev, vq);
        }
        /* What came before this has no kick. */
        virtio_queue_set_notification(vq, 1);
    } while (!virtio_queue_empty(vq));
    return true;
}

/* --- Rings --- */

static void look_at_rings(Look *look, int n)
{
    VirtIODevice *vdev = look->vdev;

    if (!virtio_queue_get_desc_addr(vdev, n)) {
        return;
    }
    look_at(look, virtio_queue_get_desc_addr(vdev, n),
            virtio_queue_get_desc_size(vdev, n),
            virtio_vdev_has_feature(vdev, VIRTIO_F_RING_PACKED));
    look_at(look, virtio_queue_get_avail_addr(vdev, n),
            virtio_queue_get_avail_size(vdev, n), false);
    look_at(look, virtio_queue_get_used_addr(vdev, n),
            virtio_queue_get_used_size(vdev, n), true);
}

bool virtio_postcopy_rings_missing(VirtIODevice *vdev, int n)
{
    VirtQueue *vq = virtio_get_queue(vdev, n);
    Look look = { .vdev = vdev, .gate = postcopy_gate_new() };
    VirtQueuePutOff *p = *virtio_queue_put_off(vq);

    WITH_RCU_READ_LOCK_GUARD() {
        look_at_rings(&look, n);
    }
    if (!look_pages(&look)) {
        postcopy_gate_free(look.gate);
        /* There were others, whose pages do not matter any more. */
        if (p && p->rings) {
            p->rings = false;
            postcopy_gate_reset(p->gate);
            qemu_bh_schedule(p->bh);
        }
        return false;
    }
    p = get_put_off(vdev, vq);
    postcopy_gate_reset(p->gate);
    postcopy_gate_free(p->gate);
    p->gate = look.gate;
    p->held = false;
    p->rings = true;
    if (!put_off(p, "rings")) {
        p->rings = false;
    }
    return p->rings;
}

/* --- What is loaded --- */

static void coroutine_mixed_fn load_wait(PostcopyGate *gate)
{
    if (postcopy_gate_pages(gate)) {
        trace_virtio_postcopy_load(postcopy_gate_pages(gate));
        postcopy_gate_wait(gate);
    }
    postcopy_gate_free(gate);
}

void coroutine_mixed_fn virtio_postcopy_load_rings(VirtIODevice *vdev, int num)
{
    Look look = { .vdev = vdev };

    if (!virtio_postcopy_active()) {
        return;
    }
    look.gate = postcopy_gate_new();
    for (int n = 0; n < num; n++) {
        if (!virtio_vdev_has_feature(vdev, VIRTIO_F_VERSION_1)) {
            /* Only now it is known where they are. */
            virtio_queue_update_rings(vdev, n);
        }
        WITH_RCU_READ_LOCK_GUARD() {
            look_at_rings(&look, n);
        }
    }
    load_wait(look.gate);
    for (int n = 0; n < num; n++) {
        /* From virtio_queue_update_rings(), or a change of the memory map. */
        virtio_postcopy_cancel(virtio_get_queue(vdev, n));
    }
}

void coroutine_mixed_fn virtio_postcopy_load_buffers(VirtIODevice *vdev,
                                                     const uint64_t *addr,
                                                     const struct iovec *iov,
                                                     unsigned int count,
                                                     bool is_write)
{
    Look look = { .vdev = vdev };
    bool all = !virtio_postcopy_active();

    while (!all) {
        look.gate = postcopy_gate_new();
        WITH_RCU_READ_LOCK_GUARD() {
            for (unsigned int i = 0; i < count; i++) {
                look_at(&look, addr[i], iov[i].iov_len, is_write);
            }
        }
        all = look_pages(&look) < MAX_PAGES;
        load_wait(look.gate);
    }
}

void coroutine_mixed_fn virtio_postcopy_load_element(VirtIODevice *vdev,
                                                     VirtQueueElement *elem)
{
    virtio_postcopy_load_buffers(vdev, elem->in_addr, elem->in_sg,
                                 elem->in_num, true);
    virtio_postcopy_load_buffers(vdev, elem->out_addr, elem->out_sg,
                                 elem->out_num, false);
}

/* --- Elements that tell where to read --- */

struct VirtIOPostcopyHold {
    Look look;
};

VirtIOPostcopyHold *virtio_postcopy_hold_begin(VirtIODevice *vdev,
                                               VirtQueue *vq)
{
    VirtIOPostcopyHold *hold;

    if (!virtio_postcopy_active()) {
        return NULL;
    }
    hold = g_new0(VirtIOPostcopyHold, 1);
    hold->look = (Look) {
        .vdev = vdev, .gate = postcopy_gate_new(), .vq = vq
    };
    return hold;
}

void virtio_postcopy_hold_range(VirtIOPostcopyHold *hold, hwaddr addr,
                                hwaddr len)
{
    RCU_READ_LOCK_GUARD();
    look_at(&hold->look, addr, len, false);
}

/* A part of an iov, without gaps.  @func: called if it is RAM */
static void for_each_part(const struct iovec *iov, unsigned int iov_cnt,
                          size_t offset, size_t len,
                          void (*func)(RAMBlock *rb, ram_addr_t start,
                                       ram_addr_t len, void *opaque),
                          void *opaque)
{
    RCU_READ_LOCK_GUARD();
    for (unsigned int i = 0; i < iov_cnt && len; i++) {
        size_t part;
        ram_addr_t start;
        RAMBlock *rb;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        part = MIN(len, iov[i].iov_len - offset);
        rb = qemu_ram_block_from_host(iov[i].iov_base + offset, false, &start);
        if (rb) {
            func(rb, start, part, opaque);
        }
        len -= part;
        offset = 0;
    }
}

static void hold_part(RAMBlock *rb, ram_addr_t start, ram_addr_t len,
                      void *opaque)
{
    VirtIOPostcopyHold *hold = opaque;

    look_at_block(&hold->look, rb, start, len);
}

void virtio_postcopy_hold_iov(VirtIOPostcopyHold *hold,
                              const struct iovec *iov, unsigned int iov_cnt,
                              size_t offset, size_t len)
{
    for_each_part(iov, iov_cnt, offset, len, hold_part, hold);
}

static void wait_part(RAMBlock *rb, ram_addr_t start, ram_addr_t len,
                      void *opaque)
{
    ram_wait_for(rb, start, len);
}

void virtio_postcopy_wait_iov(const struct iovec *iov, unsigned int iov_cnt,
                              size_t offset, size_t len)
{
    if (virtio_postcopy_active()) {
        for_each_part(iov, iov_cnt, offset, len, wait_part, NULL);
    }
}

bool virtio_postcopy_held(VirtQueue *vq)
{
    VirtQueuePutOff *p = *virtio_queue_put_off(vq);

    return p && p->held && !postcopy_gate_is_open(p->gate);
}

bool virtio_postcopy_hold_end(VirtIOPostcopyHold *hold)
{
    g_autofree VirtIOPostcopyHold *guard = hold;
    VirtQueuePutOff *p;

    if (!look_pages(&hold->look)) {
        postcopy_gate_free(hold->look.gate);
        return false;
    }
    /*
     * If the queue was put off for its next element, that is looked at again
     * when it is notified.
     */
    p = get_put_off(hold->look.vdev, hold->look.vq);
    postcopy_gate_reset(p->gate);
    postcopy_gate_free(p->gate);
    p->gate = hold->look.gate;
    p->held = true;
    if (put_off(p, "held")) {
        return true;
    }
    /* The pages have come, but somebody else may have waited for others. */
    qemu_bh_schedule(p->bh);
    return false;
}

void *virtio_postcopy_map(VirtIODevice *vdev, hwaddr addr, hwaddr *len)
{
    AddressSpace *as = vdev->dma_as;
    hwaddr part = *len, xlat, next;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(as, addr, &xlat, &part, false,
                                 MEMTXATTRS_UNSPECIFIED);
    if (!virtio_postcopy_active() || !mr->ram_block || !part ||
        !memory_access_is_direct(mr, false, MEMTXATTRS_UNSPECIFIED)) {
        return dma_memory_map(as, addr, len, DMA_DIRECTION_TO_DEVICE,
                              MEMTXATTRS_UNSPECIFIED);
    }
    /* As far as it goes on in the same memory. */
    for (hwaddr more; part < *len; part += more) {
        more = *len - part;
        if (address_space_translate(as, addr + part, &next, &more, false,
                                    MEMTXATTRS_UNSPECIFIED) != mr ||
            next != xlat + part || !more) {
            break;
        }
    }
    *len = part;
    memory_region_ref(mr);
    return qemu_map_ram_ptr(mr->ram_block, xlat);
}
