/*
 * Wait for a set of pages without blocking a thread
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_GATE_H
#define QEMU_MIGRATION_POSTCOPY_GATE_H

#include "system/ram-barrier.h"

/*
 * A gate opens when all of its pages are there.  They are requested together,
 * so that the wait is one round trip and not one for each page.
 *
 * Two gates stand between the end of the precopy phase and the running guest:
 *
 * 1. Before the device state is loaded: RAM that QEMU reaches by pointers of
 *    its own (video memory, ROMs, ACPI tables, …), and the first MB of the
 *    guest, from which kvmvapic patches ROMs.
 * 2. Before the vCPUs' state is given to KVM: what KVM touches then.
 */
typedef struct PostcopyGate PostcopyGate;

PostcopyGate *postcopy_gate_new(void);

/* @offset: of a host page, in bytes.  A page that is there is no harm. */
void postcopy_gate_add(PostcopyGate *gate, RAMBlock *rb, ram_addr_t offset);

/* All host pages in [@offset, @offset + @length) that are missing. */
void postcopy_gate_add_range(PostcopyGate *gate, RAMBlock *rb,
                             ram_addr_t offset, ram_addr_t length);

/* Number of pages that were added. */
size_t postcopy_gate_pages(PostcopyGate *gate);

/**
 * postcopy_gate_close: request the pages
 *
 * @opened: called once in some thread, with a bucket's lock of the RAM barrier
 *   held: it may schedule work and do no more.  The gate can be freed by what
 *   it schedules.
 *
 * Returns false if all pages are there already; then @opened is not called.
 */
bool postcopy_gate_close(PostcopyGate *gate, void (*opened)(void *opaque),
                         void *opaque);

/* The gate is open, or was never closed. */
void postcopy_gate_free(PostcopyGate *gate);

#endif /* QEMU_MIGRATION_POSTCOPY_GATE_H */
