/*
 * Huge pages that postcopy brings piece by piece
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_PIECES_H
#define QEMU_MIGRATION_POSTCOPY_PIECES_H

#include "migration.h"

/*
 * The stream has target pages.  A backend that can only make whole pages of a
 * block available (userfaultfd and hugetlbfs) collects them, and whoever waits
 * for one waits for its last neighbour.  A backend that has a bit for each
 * target page (PostcopyFaultOps.pieces) takes each as it comes: a page is a
 * target page in all that the destination keeps of it: receivedmap, claims,
 * requests, waiters and blocktime.
 *
 * The source need not know.  It keeps a bit for each target page as well, and
 * sends what is dirty from the start of a request to the end of that huge page:
 * so the page that is wanted comes first if the request starts there.  What is
 * before it in the huge page stays dirty, and comes later or when it is asked
 * for.
 *
 * A source that does know sends just what is asked for, and its background goes
 * on behind that; and when it switches, a huge page that is dirty in part stays
 * so, of which upstream's sends all once more.  The messages are PINGs and
 * PONGs with values of their own, as in postcopy-commit.h:
 *
 *   source                                destination
 *   ------                                -----------
 *   PING ask, behind ADVISE
 *                                         PONG takes, if its backend does
 *   (the guest is stopped)
 *   PING sends, before the first discard,
 *   if that has come
 *                                         (requests are for target pages)
 *
 * So each side does what the other one knows of, and for all of the migration,
 * recoveries included.
 */

/* --- Destination --- */

/* The source announces postcopy. */
void postcopy_pieces_reset(void);

/* Got a PING.  Returns the value that the PONG has. */
uint32_t postcopy_pieces_ping(MigrationIncomingState *mis, uint32_t value);

/* In how large pages @rb comes in: the block's, or the target's. */
size_t postcopy_piece_size(RAMBlock *rb);

/**
 * postcopy_piece_request: what to ask the source for
 *
 * @start: in: the page that is wanted, as an offset in bytes within @rb;
 *   out: where the request starts
 * @around: how much is wanted behind it, of a source that takes pieces
 *
 * Returns the request's length.
 */
size_t postcopy_piece_request(RAMBlock *rb, ram_addr_t *start, size_t around);

/* Do both sides know of pieces?  From the switch on. */
bool postcopy_pieces_agreed(void);

/* --- Source.  In the migration thread unless it says otherwise --- */

/* The source has sent ADVISE. */
void postcopy_pieces_ask(MigrationState *s);

/* Got a PONG.  In the return path's thread. */
void postcopy_pieces_pong(uint32_t value);

/* The guest is stopped: decides, and tells the destination. */
void postcopy_pieces_switch(MigrationState *s);

/**
 * postcopy_pieces_unit: how much of @rb is sent, and counts as dirty, at once
 *
 * In bytes: the block's page, or the target's if that was agreed upon.  Any
 * thread, from postcopy_pieces_switch() on; the block's page before.
 */
size_t postcopy_pieces_unit(RAMBlock *rb);

/**
 * postcopy_pieces_sent: pages that were asked for were sent on another channel
 *
 * @page: the target page behind them
 *
 * The background goes on there if that is in the middle of a huge page.  With
 * bitmap_mutex held, any thread.
 */
void postcopy_pieces_sent(RAMBlock *rb, unsigned long page);

/*
 * Where the background is to go on, if not where it is.  With bitmap_mutex
 * held.
 */
void postcopy_pieces_next(RAMBlock **rb, ram_addr_t *page);

#endif /* QEMU_MIGRATION_POSTCOPY_PIECES_H */
