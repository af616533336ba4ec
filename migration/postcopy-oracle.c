/*
 * Find code that gets past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "exec/ramblock.h"
#include "postcopy-claim.h"
#include "postcopy-oracle.h"
#include "migration.h"
#include "ram.h"

/*
 * A page that is written while the others are protected has been claimed
 * before.  If protect_block() does not see the claim, the write waits for this
 * lock and makes the page accessible afterwards.  If it does, the page is left
 * alone.  Protects self_mem, too.
 */
static QemuMutex oracle_lock;

static int self_mem = -1;

static void __attribute__((__constructor__)) oracle_setup(void)
{
    qemu_mutex_init(&oracle_lock);
}

/* Where the missing pages from @start on end; @start if it is not missing. */
static ram_addr_t end_of_missing(RAMBlock *rb, ram_addr_t start)
{
    while (start < rb->postcopy_length && !postcopy_claim_taken(rb, start)) {
        start += rb->page_size;
    }
    return start;
}

/* Make each run of missing pages inaccessible. */
static int protect_block(RAMBlock *rb, void *opaque)
{
    ram_addr_t start, end;
    Error **errp = opaque;

    for (start = 0; start < rb->postcopy_length; start = end + rb->page_size) {
        end = end_of_missing(rb, start);
        if (end > start && mprotect(rb->host + start, end - start, PROT_NONE)) {
            error_setg_errno(errp, errno, "RAM block '%s' can't be protected "
                             "for x-postcopy-kvm-userfault-oracle; switch it "
                             "off", rb->idstr);
            return -1;
        }
    }
    return 0;
}

/* Pages arrive before they are protected, so whoever comes first opens it. */
static int open_self_mem(void)
{
    if (self_mem < 0) {
        self_mem = qemu_open_old("/proc/self/mem", O_RDWR);
    }
    return self_mem;
}

bool postcopy_oracle_arm(Error **errp)
{
    QEMU_LOCK_GUARD(&oracle_lock);
    if (open_self_mem() < 0) {
        error_setg_errno(errp, errno, "x-postcopy-kvm-userfault-oracle needs "
                         "/proc/self/mem; switch it off");
        return false;
    }
    return !foreach_not_ignored_block(protect_block, errp);
}

static int write_all(const void *from, size_t length, off_t offset)
{
    while (length) {
        ssize_t n = RETRY_ON_EINTR(pwrite(self_mem, from, length, offset));

        if (n <= 0) {
            return n ? -errno : -EIO;
        }
        from += n;
        offset += n;
        length -= n;
    }
    return 0;
}

int postcopy_oracle_write(void *host, const void *from, size_t length)
{
    g_autofree void *zeros = from ? NULL : g_malloc0(length);
    int ret;

    QEMU_LOCK_GUARD(&oracle_lock);
    if (open_self_mem() < 0) {
        return -errno;
    }
    ret = write_all(from ?: zeros, length, (uintptr_t)host);
    if (ret) {
        return ret;
    }
    return mprotect(host, length, PROT_READ | PROT_WRITE) ? -errno : 0;
}
