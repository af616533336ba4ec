/*
 * Bitmaps of missing pages, as KVM reads them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_USERFAULT_VIEW_H
#define SYSTEM_USERFAULT_VIEW_H

#include "exec/cpu-common.h"
#include "qemu/queue.h"
#include "qemu/rcu.h"

/*
 * A view is the userfault bitmap of one memslot: bit n is set while page n of
 * the slot is missing.  A RAMBlock is seen through as many views as it has
 * slots: two address spaces (SMM), aliases below 1 MB, parts of a block that
 * PAM registers cut out.  A slot can start at any page of the block, so a
 * bitmap that all slots share is not possible: KVM wants whole words.
 *
 * A view and RAMBlock.receivedmap agree without a lock:
 *
 *   new view                          page arrives
 *   --------                          ------------
 *   all bits set                      write page
 *   insert into the block's list      set bit in receivedmap
 *   smp_mb()                          smp_mb()
 *   clear bits that receivedmap has   clear bit in all views of the list
 *
 * Whoever comes second sees what the first one did, so a page that is present
 * ends with a clear bit in each view.  A bit never becomes set again.
 *
 * The list is read under RCU and written under KVM's slots lock.
 */
typedef struct UserfaultView {
    struct rcu_head rcu;
    /* What KVM reads, with user access at the time of a fault. */
    unsigned long *bitmap;
    RAMBlock *rb;
    /* Of the slot: bytes within the block, and pages. */
    ram_addr_t offset;
    size_t npages;
    QLIST_ENTRY(UserfaultView) next;
} UserfaultView;

/**
 * userfault_view_new: publish a view of a part of @rb
 *
 * @offset, @size: in bytes, both multiples of the host's page size
 *
 * Returns NULL if none of the pages is missing.
 */
UserfaultView *userfault_view_new(RAMBlock *rb, ram_addr_t offset,
                                  ram_addr_t size);

/**
 * userfault_view_free: the slot is gone, or does not use @view any more
 *
 * The memory is freed after an RCU grace period.
 */
void userfault_view_free(UserfaultView *view);

/**
 * userfault_views_clear: pages of @rb are present
 *
 * @offset, @length: in bytes, multiples of the host's page size
 *
 * The caller has written the pages and then set their bits in
 * RAMBlock.receivedmap.  Takes no lock and makes no system call.  The bits are
 * cleared with release semantics, which pairs with the acquire of KVM.
 */
void userfault_views_clear(RAMBlock *rb, ram_addr_t offset, ram_addr_t length);

#endif /* SYSTEM_USERFAULT_VIEW_H */
