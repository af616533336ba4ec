/*
 * Unit tests of guest RAM: blocks of it, and races for their pages
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_RAM_HELPERS_H
#define TESTS_UNIT_RAM_HELPERS_H

#include "exec/cpu-common.h"
#include "qemu/thread.h"

/* The target's pages, which a whole QEMU learns from its machine. */
#define TARGET_BITS 12
#define TARGET_SIZE (1UL << TARGET_BITS)

/* As many as the time allows: -m slow is for those who have more of it. */
unsigned int rounds(unsigned int n);

/* --- Blocks --- */

/* A block whose pages are all missing.  It has no memory. */
RAMBlock *block_new(const char *name, size_t page_size, size_t npages);

/* The same with memory, all zeros. */
RAMBlock *block_new_mapped(const char *name, size_t page_size, size_t npages);

void block_free(RAMBlock *rb);

/* --- Races --- */

/*
 * Two threads, the caller's and another one, meet and do something with
 * RACE_PAGES pages at the same time, again and again.  They do not start
 * together, nor go at the same speed: most races are only a few instructions
 * wide.
 */
enum { RACE_PAGES = 8, RACE_SECONDS = 20 };

/**
 * struct Race - the caller sets the first four, the others to zero
 *
 * @rb: a block with more pages than RACE_PAGES
 * @rounds: how often they meet, if RACE_SECONDS are enough for that or tests
 *          may be slow; a busy machine gives fewer rounds
 * @pause: the other thread spins for less than so many loops behind a page
 * @other: what the other thread does with a page
 */
typedef struct Race Race;
struct Race {
    RAMBlock *rb;
    unsigned int rounds;
    unsigned int pause;
    void (*other)(Race *race, ram_addr_t offset);

    QemuThread thread;
    unsigned int arrived;
    int64_t deadline;   /* in us, as g_get_monotonic_time() */
};

/* The other thread begins with round 0, and ends after the last one. */
void race_begin(Race *race);
void race_end(Race *race);

/* In each round: the caller's part comes in between. */
void race_start(Race *race, unsigned int round);
void race_finish(Race *race, unsigned int round);

/* The offset of the @i-th page of a round. */
ram_addr_t race_page(Race *race, unsigned int round, unsigned int i);

#endif /* TESTS_UNIT_RAM_HELPERS_H */
