/*
 * Wait for a set of pages without blocking a thread
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_GATE_H
#define QEMU_MIGRATION_POSTCOPY_GATE_H

#include "system/ram-wait.h"

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
 *
 * A virtqueue whose next element has missing pages has one as well, which is
 * used again and again; see hw/virtio/virtio-postcopy.c.
 *
 * A gate is its owner's: only postcopy_gate_is_open() may be called in another
 * thread meanwhile.
 */
typedef struct PostcopyGate PostcopyGate;

PostcopyGate *postcopy_gate_new(void);

/* @offset: of a page, in bytes.  A page that is there is harmless. */
void postcopy_gate_add(PostcopyGate *gate, RAMBlock *rb, ram_addr_t offset);

/* All pages in [@offset, @offset + @length) that are missing. */
void postcopy_gate_add_range(PostcopyGate *gate, RAMBlock *rb,
                             ram_addr_t offset, ram_addr_t length);

/*
 * What is added from here on will soon be needed: it is requested with the
 * rest, but the gate does not wait for it.
 */
void postcopy_gate_soon(PostcopyGate *gate);

/* Number of pages that were added. */
size_t postcopy_gate_pages(PostcopyGate *gate);

/**
 * postcopy_gate_close: request the pages
 *
 * @opened: called once in some thread, with a bucket's lock of the RAM wait
 *   held: it may schedule work and do no more.  The gate can be freed by what
 *   it schedules.
 *
 * Returns false if all pages are there already; then @opened is not called.
 */
bool postcopy_gate_close(PostcopyGate *gate, void (*opened)(void *opaque),
                         void *opaque);

/**
 * postcopy_gate_is_open: true but between postcopy_gate_close() and @opened
 *
 * Who sees true sees the pages' contents.  Any thread.
 */
bool postcopy_gate_is_open(PostcopyGate *gate);

/**
 * postcopy_gate_reset: take everything back
 *
 * When it returns, @opened does not run and will not be called, and the gate
 * has no pages.  Whether it was called is not known.
 */
void postcopy_gate_reset(PostcopyGate *gate);

/**
 * postcopy_gate_wait: close the gate, and return when it is open
 *
 * A coroutine yields meanwhile.  Anybody else blocks, as in the RAM wait.
 * What was added after postcopy_gate_soon() is not waited for.
 */
void coroutine_mixed_fn postcopy_gate_wait(PostcopyGate *gate);

/* The gate is open, or was never closed, or was reset. */
void postcopy_gate_free(PostcopyGate *gate);

/*
 * How often something was put off, and somebody went on, until a gate is open;
 * for query-migrate.  Any thread.
 */
void postcopy_gate_count_put_off(void);
uint64_t postcopy_gate_put_off(void);
void postcopy_gate_reset_count(void);

#endif /* QEMU_MIGRATION_POSTCOPY_GATE_H */
