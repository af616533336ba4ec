/*
 * Huge pages that postcopy brings piece by piece
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_PIECES_H
#define QEMU_MIGRATION_POSTCOPY_PIECES_H

#include "exec/cpu-common.h"

/*
 * The stream has target pages.  A backend that can only make whole pages of a
 * block available (userfaultfd and hugetlbfs) collects them, and whoever waits
 * for one waits for its last neighbour.  A backend that has a bit for each
 * target page (PostcopyFaultOps.pieces) takes each as it comes: a page is a
 * target page in all that the destination keeps of it, i.e. receivedmap, claims,
 * requests, waiters and blocktime.
 *
 * The source need not know.  It keeps a bit for each target page as well, and
 * sends what is dirty from the start of a request to the end of that huge page:
 * so the page that is wanted comes first if the request starts there.  What is
 * before it in the huge page stays dirty, and comes later or when it is asked
 * for.
 */

/* In how large pages @rb comes in: the block's, or the target's. */
size_t postcopy_piece_size(RAMBlock *rb);

/**
 * postcopy_piece_request: what to ask the source for
 *
 * @start: in: the page that is wanted, as an offset in bytes within @rb;
 *   out: where the request starts
 *
 * Returns the request's length.
 */
size_t postcopy_piece_request(RAMBlock *rb, ram_addr_t *start);

#endif /* QEMU_MIGRATION_POSTCOPY_PIECES_H */
