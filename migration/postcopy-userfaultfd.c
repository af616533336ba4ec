/*
 * Postcopy with userfaultfd, as one of the backends that catch accesses
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/userfaultfd.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration.h"
#include "postcopy-fault.h"
#include "postcopy-ram.h"
#include "ram.h"
#include "trace.h"

/*
 * The functions that make the system calls and their checks are where they
 * always were, in postcopy-ram.c.  They report errors themselves; what is set
 * here says what it was that failed.
 */

static bool uffd_discard_range(RAMBlock *rb, uint64_t start, size_t length,
                               Error **errp)
{
    int ret = ram_block_discard_range(rb, start, length);

    if (ret) {
        error_setg_errno(errp, -ret, "RAM block '%s' can't be discarded",
                         rb->idstr);
        return false;
    }
    return true;
}

static bool uffd_prepare_discard(MigrationIncomingState *mis, Error **errp)
{
    if (foreach_not_ignored_block(nhp_range, mis)) {
        error_setg(errp, "Huge pages can't be switched off for guest RAM");
        return false;
    }
    return true;
}

static bool uffd_setup(MigrationIncomingState *mis, Error **errp)
{
    /* Open the fd for the kernel to give us userfaults */
    mis->userfault_fd = uffd_open(O_CLOEXEC | O_NONBLOCK);
    if (mis->userfault_fd == -1) {
        error_setg_errno(errp, errno, "Failed to open userfault fd");
        return false;
    }
    /* The host check used another one, and this is the new one's handshake. */
    if (!ufd_check_and_apply(mis->userfault_fd, mis, errp)) {
        close(mis->userfault_fd);
        mis->userfault_fd = -1;
        return false;
    }
    return true;
}

static bool uffd_arm(MigrationIncomingState *mis, Error **errp)
{
    if (foreach_not_ignored_block(ram_block_enable_notify, mis)) {
        error_setg(errp, "Guest RAM can't be registered with userfaultfd");
        return false;
    }
    return true;
}

static bool uffd_place(MigrationIncomingState *mis, void *host, void *from,
                       uint64_t pagesize, RAMBlock *rb, Error **errp)
{
    int ret = from ?
              uffd_copy_page(mis->userfault_fd, host, from, pagesize, false) :
              uffd_zero_page(mis->userfault_fd, host, pagesize, false);

    if (ret) {
        error_setg_errno(errp, -ret, "userfaultfd can't place a page of RAM "
                         "block '%s'", rb->idstr);
        return false;
    }
    ramblock_recv_bitmap_set_range(rb, host,
                                   pagesize / qemu_target_page_size());
    return true;
}

static bool uffd_cleanup(MigrationIncomingState *mis, Error **errp)
{
    if (mis->userfault_fd == -1) {
        return true;
    }
    if (foreach_not_ignored_block(cleanup_range, mis)) {
        error_setg(errp, "Guest RAM can't be taken from userfaultfd");
        return false;
    }
    trace_postcopy_ram_incoming_cleanup_closeuf();
    close(mis->userfault_fd);
    mis->userfault_fd = -1;
    return true;
}

const PostcopyFaultOps postcopy_userfaultfd_ops = {
    .backend = POSTCOPY_FAULT_BACKEND_USERFAULTFD,
    .supported_by_host = userfaultfd_supported_by_host,
    .discard_range = uffd_discard_range,
    .prepare_discard = uffd_prepare_discard,
    .setup = uffd_setup,
    .fault_thread = postcopy_ram_fault_thread,
    .arm = uffd_arm,
    .place = uffd_place,
    .cleanup = uffd_cleanup,
};
