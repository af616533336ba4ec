/*
 * Pages behind those that vCPUs wait for
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <netinet/tcp.h>
#include <poll.h>
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration.h"
#include "options.h"
#include "postcopy-around.h"
#include "postcopy-request.h"
#include "qemu-file.h"
#include "ram.h"
#include "trace.h"

/* --- Destination --- */

/* How many pages the first request that goes beyond its page asks for. */
#define FIRST 4

/* What this vCPU's thread has asked for last; @rb is only compared. */
static __thread struct {
    const RAMBlock *rb;
    /* Bytes in @rb: the page that it waited for, and where the request ends. */
    ram_addr_t start, end;
    /* How many pages behind the first one. */
    unsigned int pages;
} last;

/*
 * How many pages to ask for behind this one.  A vCPU does not stop at pages that
 * have arrived, so what it has used shows in where it stops next: behind what
 * was asked for if that was used, in it if the rest is still on its way.
 */
static unsigned int next_pages(const RAMBlock *rb, ram_addr_t start,
                               unsigned int most)
{
    size_t size = qemu_target_page_size();

    if (rb != last.rb || start < last.start ||
        start > last.end + last.pages * size) {
        return last.pages / 4;
    }
    return MIN(start < last.end ? last.pages : MAX(2 * last.pages, FIRST),
               most);
}

size_t postcopy_around_next(RAMBlock *rb, ram_addr_t start)
{
    size_t size = qemu_target_page_size();
    unsigned int most = migrate_get_current()->postcopy_around;
    size_t len;

    if (!most || !migrate_postcopy_preempt()) {
        return 0;
    }
    last.pages = next_pages(rb, start, most);
    len = MIN(last.pages * size, rb->postcopy_length - start - size);
    last.rb = rb;
    last.start = start;
    last.end = start + size + len;
    trace_postcopy_around_next(rb->idstr, start, len);
    return len;
}

/* --- Source --- */

/* As many vCPUs can have pages kept for them; the oldest ones go first. */
#define KEPT_MAX 64

/*
 * More than a page on its way keeps a long link busy, and all that is in front
 * of a page that somebody waits for is this.
 */
#define UNSENT_MAX (16 * KiB)

typedef struct Kept {
    RAMBlock *rb;
    /* Target pages. */
    unsigned long page, end;
} Kept;

/* All of it belongs to the return path's thread. */
static struct {
    Kept kept[KEPT_MAX];
    unsigned int first, nr;
    /* The channel whose unsent bytes are limited. */
    QEMUFile *limited;
} source;

void postcopy_around_reset(void)
{
    source.nr = 0;
    source.limited = NULL;
}

static void drop_oldest(void)
{
    source.first++;
    source.nr--;
}

size_t postcopy_around_take(RAMBlock *rb, ram_addr_t start, size_t len,
                            size_t unit)
{
    unsigned int bits = qemu_target_page_bits();

    if (unit != qemu_target_page_size() || len <= unit) {
        return len;
    }
    if (source.nr == KEPT_MAX) {
        drop_oldest();
    }
    source.kept[(source.first + source.nr++) % KEPT_MAX] = (Kept) {
        .rb = rb,
        .page = (start + unit) >> bits,
        .end = (start + len) >> bits,
    };
    return unit;
}

/* Once for each channel.  Sockets of another kind have no such limit. */
static void limit_unsent(QEMUFile *f, int fd)
{
    int limit = UNSENT_MAX;

    if (source.limited != f) {
        source.limited = f;
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &limit, sizeof(limit));
    }
}

/* Waits until one more page can go out, or somebody asks for another one. */
static bool can_send(QEMUFile *rp, QEMUFile *f)
{
    struct pollfd fds[] = {
        { .fd = postcopy_request_fd(rp), .events = POLLIN },
        { .fd = postcopy_request_fd(f), .events = POLLOUT },
    };

    if (qemu_file_has_input(rp) || fds[0].fd < 0 || fds[1].fd < 0) {
        return false;
    }
    limit_unsent(f, fds[1].fd);
    /* If the link breaks, whoever reads the return path sees it. */
    return RETRY_ON_EINTR(poll(fds, ARRAY_SIZE(fds), -1)) > 0 &&
           !fds[0].revents && fds[1].revents == POLLOUT;
}

/* The next page that is kept and has not been sent; NULL if none. */
static Kept *next_kept(void)
{
    while (source.nr) {
        Kept *kept = &source.kept[source.first % KEPT_MAX];

        /* A bit that is cleared meanwhile is seen when the page is sent. */
        kept->page = find_next_bit(kept->rb->bmap, kept->end, kept->page);
        if (kept->page < kept->end) {
            return kept;
        }
        drop_oldest();
    }
    return NULL;
}

bool postcopy_around_send(MigrationState *s, QEMUFile *rp, Error **errp)
{
    Kept *kept;

    while ((kept = next_kept()) && can_send(rp, s->postcopy_qemufile_src)) {
        trace_postcopy_around_send(kept->rb->idstr, kept->page);
        if (ram_save_around(kept->rb, kept->page++)) {
            error_setg(errp, "Pages of RAM block '%s' could not be sent",
                       kept->rb->idstr);
            return false;
        }
    }
    return true;
}
