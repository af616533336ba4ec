/*
 * Pages behind those that vCPUs wait for
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_AROUND_H
#define QEMU_MIGRATION_POSTCOPY_AROUND_H

#include "migration.h"

/*
 * A guest that goes through its memory waits for one page after the other, each
 * for as long as the link takes there and back.  So a vCPU's request goes
 * beyond its page: by nothing at first, and by up to MigrationState's
 * postcopy_around pages when the vCPU has used what it had asked for.
 *
 * Without the preempt channel, the background goes on behind each page that was
 * asked for, and nothing more is needed.  With it the background stays where it
 * is; there the source sends the first page at once, and the others through the
 * same channel when no other request waits.  They are hardly in the way of a
 * page that somebody waits for: they are sent one by one, each when what was
 * sent before has nearly left.
 *
 * Only between two sides that have agreed on pieces, see postcopy-pieces.h: a
 * source that does not know of it would send all of them before it looks at the
 * next request.
 */

/* --- Destination --- */

/**
 * postcopy_around_next: how much to ask for behind the page at @start
 *
 * In bytes, whole target pages within @rb, 0 if nothing.  Some may be there, or
 * have been asked for: the source sends what it has not sent.  For
 * postcopy_piece_request(), which knows whether the source does.
 *
 * In a vCPU's thread, once for each page that it requests: what it asks for
 * next depends on it.
 */
size_t postcopy_around_next(RAMBlock *rb, ram_addr_t start);

/* --- Source.  In the return path's thread --- */

/* A return path is there, and the channels that belong to it. */
void postcopy_around_reset(void);

/**
 * postcopy_around_take: keeps what can wait of a request
 *
 * @start, @len: the request, in bytes
 * @unit: how much of @rb is sent at once, in bytes
 *
 * Returns the length of what is to be sent at once: all, unless the unit is a
 * target page.
 */
size_t postcopy_around_take(RAMBlock *rb, ram_addr_t start, size_t len,
                            size_t unit);

/**
 * postcopy_around_send: sends what was kept, until there is a message
 *
 * @rp: the return path; the thread reads it next
 *
 * Returns false on error, with @errp set.
 */
bool postcopy_around_send(MigrationState *s, QEMUFile *rp, Error **errp);

#endif /* QEMU_MIGRATION_POSTCOPY_AROUND_H */
