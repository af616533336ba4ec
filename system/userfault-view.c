/*
 * Bitmaps of missing pages, as KVM reads them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/rcu_queue.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "system/userfault-view.h"
#include "trace.h"

/* Pages are those of the target and of the host: x86 has 4K for both. */
static size_t page_size(void)
{
    return qemu_target_page_size();
}

/*
 * BITS_PER_LONG bits of receivedmap from @page on, beyond what is migrated:
 * nothing there is missing.  @page need not be at a word's start.
 */
static unsigned long received_word(RAMBlock *rb, unsigned long page)
{
    unsigned long npages = rb->postcopy_length / page_size();
    unsigned long *p = &rb->receivedmap[BIT_WORD(page)];
    unsigned int shift = page % BITS_PER_LONG;
    unsigned long word;

    if (page >= npages) {
        return ~0UL;
    }
    /*
     * Acquire: who sees the bit clear in the view, for which view_sync() is a
     * release, sees the page's contents, too.
     */
    word = qatomic_load_acquire(p) >> shift;
    if (shift && page + BITS_PER_LONG - shift < npages) {
        word |= qatomic_load_acquire(p + 1) << (BITS_PER_LONG - shift);
    }
    if (npages - page < BITS_PER_LONG) {
        word |= ~BITMAP_LAST_WORD_MASK(npages - page);
    }
    return word;
}

/* Clear the bits of present pages, and tell whether any bit is left. */
static bool view_sync(UserfaultView *view)
{
    unsigned long first = view->offset / page_size();
    unsigned long left = 0;

    for (size_t i = 0; i < view->npages; i += BITS_PER_LONG) {
        unsigned long *word = &view->bitmap[BIT_WORD(i)];
        unsigned long received = received_word(view->rb, first + i);

        /* Pages that arrive meanwhile clear bits in the same words. */
        left |= received ? qatomic_fetch_and(word, ~received) & ~received :
                           qatomic_read(word);
    }
    return left;
}

UserfaultView *userfault_view_new(RAMBlock *rb, ram_addr_t offset,
                                  ram_addr_t size)
{
    UserfaultView *view;

    assert(QEMU_IS_ALIGNED(offset | size, page_size()));
    if (!rb->receivedmap) {
        return NULL;
    }

    view = g_new0(UserfaultView, 1);
    view->rb = rb;
    view->offset = offset;
    view->npages = size / page_size();
    view->bitmap = bitmap_new(view->npages);
    bitmap_set(view->bitmap, 0, view->npages);

    QLIST_INSERT_HEAD_RCU(&rb->userfault_views, view, next);
    /* Be in the list before reading receivedmap; see userfault_views_clear() */
    smp_mb();
    if (!view_sync(view)) {
        userfault_view_free(view);
        return NULL;
    }
    trace_userfault_view_new(rb->idstr, offset, size);
    return view;
}

static void view_reclaim(UserfaultView *view)
{
    g_free(view->bitmap);
    g_free(view);
}

void userfault_view_free(UserfaultView *view)
{
    QLIST_REMOVE_RCU(view, next);
    call_rcu(view, view_reclaim, rcu);
}

/* Clear @nr bits from @start on, in words that others change, too. */
static void bitmap_clear_release(unsigned long *map, size_t start, size_t nr)
{
    while (nr) {
        size_t bit = start % BITS_PER_LONG;
        size_t n = MIN(nr, BITS_PER_LONG - bit);
        unsigned long mask = BITMAP_LAST_WORD_MASK(n) << bit;

        /* Sequentially consistent, thus a release. */
        qatomic_and(&map[BIT_WORD(start)], ~mask);
        start += n;
        nr -= n;
    }
}

void userfault_views_clear(RAMBlock *rb, ram_addr_t offset, ram_addr_t length)
{
    UserfaultView *view;

    /* The caller has set receivedmap; pairs with userfault_view_new(). */
    smp_mb();
    RCU_READ_LOCK_GUARD();
    QLIST_FOREACH_RCU(view, &rb->userfault_views, next) {
        ram_addr_t view_end = view->offset + view->npages * page_size();
        ram_addr_t start = MAX(offset, view->offset);
        ram_addr_t end = MIN(offset + length, view_end);

        if (start < end) {
            bitmap_clear_release(view->bitmap,
                                 (start - view->offset) / page_size(),
                                 (end - start) / page_size());
        }
    }
}
