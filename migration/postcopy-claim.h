/*
 * One writer for each page that postcopy brings
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_CLAIM_H
#define QEMU_MIGRATION_POSTCOPY_CLAIM_H

#include "exec/cpu-common.h"

/*
 * Pages come on two channels, each with a thread that writes them, and the same
 * page may come on both.  The guest may write to a page as soon as its bit in
 * RAMBlock.receivedmap is set, so it must be written once: by the thread that
 * claims it.  The other one waits until the page is there, since what it does
 * next (dropping the request, counting the time) is only right then.
 *
 * A claim is one atomic operation on a bit of RAMBlock.postcopy_claims.  No
 * lock is held while a page is written: whoever brings another page goes on.
 * Only postcopy_claim_drop() clears a bit, so a page that is there and came in
 * postcopy is claimed as well.
 *
 * Any thread may call these, and hold any lock that the thread that writes does
 * not take meanwhile.
 */

/* No page of @rb is claimed.  Called before the first page comes. */
void postcopy_claims_init(RAMBlock *rb);

/* No page comes any more. */
void postcopy_claims_free(RAMBlock *rb);

/**
 * postcopy_claim: ask for the right to write the page at @offset
 *
 * @offset: in bytes, aligned to the target's page size: that is a page, also in
 *   a block of huge pages
 *
 * Returns true if the page is missing and nobody else writes it: the caller
 * does, and calls postcopy_claim_done() or postcopy_claim_drop().
 *
 * Returns false if the page is there: its contents can be read (acquire).  If
 * another thread is about to write it, this comes first to its end; it takes as
 * long as that page needs to be copied.
 */
bool postcopy_claim(RAMBlock *rb, ram_addr_t offset);

/**
 * postcopy_claim_done: the page was written, and its bit in receivedmap set
 *
 * By set_bit_atomic(), just before this: it is the full barrier that it takes
 * to see whether anybody waits.
 */
void postcopy_claim_done(RAMBlock *rb, ram_addr_t offset);

/* The page could not be written: who brings it next may try. */
void postcopy_claim_drop(RAMBlock *rb, ram_addr_t offset);

/* Is the page there, or being written?  If so, it stays so unless dropped. */
bool postcopy_claim_taken(RAMBlock *rb, ram_addr_t offset);

#endif /* QEMU_MIGRATION_POSTCOPY_CLAIM_H */
