/*
 * One writer for each page that postcopy brings
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "postcopy-claim.h"

/* For those who bring a page that another thread is writing, which is rare. */
static struct {
    /* Innermost: nothing is called with it held. */
    QemuMutex lock;
    /* Some page was written, or dropped. */
    QemuCond changed;
    /* Number of threads that wait.  Written under the lock. */
    unsigned int nr;
} waiting;

static void __attribute__((__constructor__)) claims_setup(void)
{
    qemu_mutex_init(&waiting.lock);
    qemu_cond_init(&waiting.changed);
}

void postcopy_claims_init(RAMBlock *rb)
{
    g_free(rb->postcopy_claims);
    rb->postcopy_claims = bitmap_new(rb->postcopy_length >>
                                     qemu_target_page_bits());
}

void postcopy_claims_free(RAMBlock *rb)
{
    g_free(rb->postcopy_claims);
    rb->postcopy_claims = NULL;
}

/* Acquire: who sees the page's bit in receivedmap sees its contents, too. */
static bool test_page(const unsigned long *map, ram_addr_t offset)
{
    unsigned long nr = offset >> qemu_target_page_bits();

    return qatomic_load_acquire(&map[BIT_WORD(nr)]) & BIT_MASK(nr);
}

bool postcopy_claim_taken(RAMBlock *rb, ram_addr_t offset)
{
    return test_page(rb->postcopy_claims, offset) ||
           test_page(rb->receivedmap, offset);
}

/* Returns false if somebody else has set it. */
static bool set_claim(RAMBlock *rb, ram_addr_t offset)
{
    unsigned long nr = offset >> qemu_target_page_bits();

    return !(qatomic_fetch_or(&rb->postcopy_claims[BIT_WORD(nr)],
                              BIT_MASK(nr)) & BIT_MASK(nr));
}

static bool being_written(RAMBlock *rb, ram_addr_t offset)
{
    return test_page(rb->postcopy_claims, offset) &&
           !test_page(rb->receivedmap, offset);
}

static void wait_for_writer(RAMBlock *rb, ram_addr_t offset)
{
    QEMU_LOCK_GUARD(&waiting.lock);
    qatomic_set(&waiting.nr, waiting.nr + 1);
    /* Be counted before looking at the bits; pairs with wake(). */
    smp_mb();
    while (being_written(rb, offset)) {
        qemu_cond_wait(&waiting.changed, &waiting.lock);
    }
    qatomic_set(&waiting.nr, waiting.nr - 1);
}

/* The bits were changed, last by an atomic operation. */
static void wake(void)
{
    /* Pairs with wait_for_writer(): either it sees the bits or we see it. */
    smp_mb__after_rmw();
    if (likely(!qatomic_read(&waiting.nr))) {
        return;
    }
    QEMU_LOCK_GUARD(&waiting.lock);
    qemu_cond_broadcast(&waiting.changed);
}

bool postcopy_claim(RAMBlock *rb, ram_addr_t offset)
{
    assert(QEMU_IS_ALIGNED(offset, qemu_target_page_size()));

    /*
     * receivedmap first: what came in precopy was never claimed.  Whoever gets
     * the claim after that is alone with a page that is missing, for its bit is
     * set by who has the claim, and that is for good.
     */
    while (!test_page(rb->receivedmap, offset)) {
        if (set_claim(rb, offset)) {
            return true;
        }
        wait_for_writer(rb, offset);
    }
    return false;
}

void postcopy_claim_done(RAMBlock *rb, ram_addr_t offset)
{
    assert(test_page(rb->receivedmap, offset));
    wake();
}

void postcopy_claim_drop(RAMBlock *rb, ram_addr_t offset)
{
    unsigned long nr = offset >> qemu_target_page_bits();

    /*
     * Who claims it next writes after whatever was written here; the pair is
     * the exchange in set_claim().
     */
    qatomic_fetch_and(&rb->postcopy_claims[BIT_WORD(nr)], ~BIT_MASK(nr));
    wake();
}
