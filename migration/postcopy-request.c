/*
 * Requests for pages by those who wait for them
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "io/channel-file.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "migration.h"
#include "postcopy-around.h"
#include "postcopy-request.h"
#include "qemu-file.h"
#include "ram.h"
#include "trace.h"

/* With rp_mutex: there is a migration, whose files and tree stay. */
static bool is_open;

/* What the channel's bytes go to, or -1. */
static int channel_fd(QIOChannel *ioc)
{
    Object *obj = OBJECT(ioc);

    if (object_dynamic_cast(obj, TYPE_QIO_CHANNEL_TLS)) {
        return channel_fd(QIO_CHANNEL_TLS(ioc)->master);
    }
    if (object_dynamic_cast(obj, TYPE_QIO_CHANNEL_SOCKET)) {
        return QIO_CHANNEL_SOCKET(ioc)->fd;
    }
    if (object_dynamic_cast(obj, TYPE_QIO_CHANNEL_FILE)) {
        return QIO_CHANNEL_FILE(ioc)->fd;
    }
    return -1;
}

int postcopy_request_fd(QEMUFile *f)
{
    return channel_fd(qemu_file_get_ioc(f));
}

/*
 * Does a request, of less than 300 bytes, go out without waiting?  Sockets say
 * that they are writable when a good part of their buffer is free.
 */
static bool is_free(QEMUFile *f)
{
    struct pollfd pfd = {
        .fd = postcopy_request_fd(f),
        .events = POLLOUT,
    };

    return pfd.fd >= 0 && RETRY_ON_EINTR(poll(&pfd, 1, 0)) == 1 &&
           pfd.revents == POLLOUT;
}

/*
 * Called with rp_mutex held.  While both sides talk about what is missing, i.e.
 * before POSTCOPY_ACTIVE, no requests are sent.
 */
static bool can_send(MigrationIncomingState *mis)
{
    /*
     * Acquire: the state was set after to_src_file and last_rb, see the
     * handling of RESUME.  It sends all of the tree after its acknowledgement:
     * also what was sent before that.
     */
    return is_open && qatomic_load_acquire(&mis->state) ==
                          MIGRATION_STATUS_POSTCOPY_ACTIVE &&
           mis->to_src_file && !qemu_file_get_error(mis->to_src_file) &&
           is_free(mis->to_src_file);
}

/* Returns false if the page need not be requested.  page_request_mutex held. */
static bool add_to_tree(MigrationIncomingState *mis, RAMBlock *rb,
                        ram_addr_t start)
{
    void *host = rb->host + start;

    if (ramblock_recv_bitmap_test_byte_offset(rb, start) ||
        g_tree_lookup(mis->page_requested, host)) {
        return false;
    }
    g_tree_insert(mis->page_requested, host, (gpointer)1);
    qatomic_inc(&mis->page_requested_count);
    trace_postcopy_page_req_add(host, mis->page_requested_count);
    return true;
}

/* Called with rp_mutex held. */
static bool request_locked(MigrationIncomingState *mis, RAMBlock *rb,
                           ram_addr_t start, size_t around)
{
    bool needed;

    if (!can_send(mis) || qemu_mutex_trylock(&mis->page_request_mutex)) {
        return false;
    }
    needed = add_to_tree(mis, rb, start);
    qemu_mutex_unlock(&mis->page_request_mutex);
    if (needed) {
        /* Whoever reads the stream sees the link break, too. */
        migrate_send_rp_req_pages_locked(mis, rb, start, around);
    }
    return true;
}

bool postcopy_request_now(MigrationIncomingState *mis, RAMBlock *rb,
                          ram_addr_t start)
{
    size_t around = postcopy_around_next(rb, start);
    bool done;

    assert(QEMU_IS_ALIGNED(start, qemu_target_page_size()));
    if (qemu_mutex_trylock(&mis->rp_mutex)) {
        return false;
    }
    done = request_locked(mis, rb, start, around);
    qemu_mutex_unlock(&mis->rp_mutex);
    trace_postcopy_request_now(rb->idstr, start, done);
    return done;
}

static void set_open(MigrationIncomingState *mis, bool open)
{
    QEMU_LOCK_GUARD(&mis->rp_mutex);
    is_open = open;
}

void postcopy_request_open(MigrationIncomingState *mis)
{
    set_open(mis, true);
}

void postcopy_request_close(MigrationIncomingState *mis)
{
    set_open(mis, false);
}
