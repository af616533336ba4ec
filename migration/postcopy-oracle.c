/*
 * Find code that gets past the RAM barrier
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "postcopy-oracle.h"
#include "migration.h"
#include "ram.h"

static int self_mem = -1;

/* Make each run of missing pages inaccessible. */
static int protect_block(RAMBlock *rb, void *opaque)
{
    unsigned long npages = rb->postcopy_length >> qemu_target_page_bits();
    unsigned long start = 0, end;
    Error **errp = opaque;

    for (;;) {
        start = find_next_zero_bit(rb->receivedmap, npages, start);
        if (start >= npages) {
            return 0;
        }
        end = find_next_bit(rb->receivedmap, npages, start);
        if (mprotect(rb->host + start * qemu_target_page_size(),
                     (end - start) * qemu_target_page_size(), PROT_NONE)) {
            error_setg_errno(errp, errno, "RAM block '%s' can't be protected "
                             "for x-postcopy-kvm-userfault-oracle; switch it "
                             "off", rb->idstr);
            return -1;
        }
        start = end;
    }
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

    if (open_self_mem() < 0) {
        return -errno;
    }
    ret = write_all(from ?: zeros, length, (uintptr_t)host);
    if (ret) {
        return ret;
    }
    return mprotect(host, length, PROT_READ | PROT_WRITE) ? -errno : 0;
}
