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
#include "exec/target_page.h"
#include "postcopy-claim.h"
#include "postcopy-oracle.h"
#include "migration.h"
#include "ram.h"

/*
 * A page that is written while the others are protected has been claimed
 * before.  If protect_block() does not see the claim, the write waits for this
 * lock and makes the page accessible afterwards.  If it does, the page is left
 * alone.  Protects all that is static here, too.
 */
static QemuMutex oracle_lock;

static int self_mem = -1;

static void __attribute__((__constructor__)) oracle_setup(void)
{
    qemu_mutex_init(&oracle_lock);
}

/*
 * Has nothing come of the page of the host at @start?  Only all of it can be
 * protected, so a huge page is accessible from its first piece on.
 */
static bool host_page_missing(RAMBlock *rb, ram_addr_t start)
{
    for (ram_addr_t i = 0; i < rb->page_size; i += qemu_target_page_size()) {
        if (postcopy_claim_taken(rb, start + i)) {
            return false;
        }
    }
    return true;
}

/* Where the missing pages from @start on end; @start if it is not missing. */
static ram_addr_t end_of_missing(RAMBlock *rb, ram_addr_t start)
{
    while (start < rb->postcopy_length && host_page_missing(rb, start)) {
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

/* Another mapping of shared memory; NULL with errno set. */
static void *second_mapping(RAMBlock *rb)
{
    static GHashTable *mappings;
    void *host;

    if (!mappings) {
        mappings = g_hash_table_new(NULL, NULL);
    }
    host = g_hash_table_lookup(mappings, rb);
    if (!host) {
        host = mmap(NULL, rb->postcopy_length, PROT_READ | PROT_WRITE,
                    MAP_SHARED, rb->fd, rb->fd_offset);
        if (host == MAP_FAILED) {
            return NULL;
        }
        g_hash_table_insert(mappings, rb, host);
    }
    return host;
}

/* Past the protection.  Returns 0 or a negative errno. */
static int write_protected(RAMBlock *rb, ram_addr_t offset, const void *from,
                           size_t length)
{
    void *second;

    if (!qemu_ram_is_shared(rb)) {
        return open_self_mem() < 0 ? -errno :
               write_all(from, length, (uintptr_t)rb->host + offset);
    }
    /* What is forced is private to the process, which is not wanted here. */
    second = second_mapping(rb);
    if (!second) {
        return -errno;
    }
    memcpy(second + offset, from, length);
    return 0;
}

int postcopy_oracle_write(RAMBlock *rb, ram_addr_t offset, const void *from)
{
    const size_t length = qemu_target_page_size();
    g_autofree void *zeros = from ? NULL : g_malloc0(length);
    int ret;

    QEMU_LOCK_GUARD(&oracle_lock);
    ret = write_protected(rb, offset, from ?: zeros, length);
    if (ret) {
        return ret;
    }
    return mprotect(rb->host + ROUND_DOWN(offset, rb->page_size), rb->page_size,
                    PROT_READ | PROT_WRITE) ? -errno : 0;
}
