/*
 * Find code that gets past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_ORACLE_H
#define QEMU_MIGRATION_POSTCOPY_ORACLE_H

#include "exec/cpu-common.h"

/*
 * For tests, -global migration.x-postcopy-kvm-userfault-oracle=on: a page that
 * is missing can't be accessed at all.  A pointer that no hook of the RAM wait
 * covers ends in SIGSEGV, where its backtrace tells whose it is; a system call
 * gets EFAULT, and so does KVM if it touches what it should not.  Pages are
 * written past the protection: private memory through /proc/self/mem, shared
 * memory by a second mapping.
 *
 * Huge pages of hugetlbfs can be protected only as a whole, and are accessible
 * from their first piece on.
 *
 * It makes two system calls a page, splits transparent huge pages, and needs a
 * mapping for each hole: for small guests, and not for production.
 */

/**
 * postcopy_oracle_arm: protect all missing pages
 *
 * Called when those that must be there have arrived.  Pages may be written
 * meanwhile, by who has claimed them (postcopy_claim()).
 */
bool postcopy_oracle_arm(Error **errp);

/**
 * postcopy_oracle_write: write a page, and let everybody at it
 *
 * @from: the page, or NULL for zeros
 *
 * The caller has claimed the page.  May be called before postcopy_oracle_arm().
 * Returns 0 or a negative errno.
 */
int postcopy_oracle_write(RAMBlock *rb, ram_addr_t offset, const void *from);

#endif /* QEMU_MIGRATION_POSTCOPY_ORACLE_H */
