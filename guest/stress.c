/*
 * The guest's work on its memory: stress[:OPTION=VALUE]...
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   threads=N   that do it [2]
 *   own=MB      what each thread has for itself [32]
 *   shared=MB   what all of them have together [8]
 *   order=WORD  in which pages are visited: random or sequential [random]
 *   write=N     how many visits in a hundred write; all of them check [90]
 *   rest=MS     how long a thread does nothing after each 64 visits [0]
 *   tick=MS     how often a line is written on the console [250]
 *
 * In a pass, a thread visits each page of its own and each shared page once.
 * Each page has a stamp: its number, who wrote it, how often it was written,
 * and a checksum over all of it.  What must be there is known from elsewhere,
 * so a page of the past is found, too.  Wrong memory ends everything at once.
 *
 * Lines, times in ms of CLOCK_MONOTONIC:
 *
 *   stress: up threads=N ... pages=N at=ADDRESS
 *     all pages, and where in this process the first one is
 *   stress: t=MS pages=N pass=N [slow=B:N,...] [stalls=N at=MS:US,...]
 *     pages checked so far, and passes that all threads have done; and of the
 *     time since the last line: how many first accesses to a page took 32 us or
 *     more, by bucket, see bucket_of(); how many took over 1 ms, and the first
 *     of these, when they began and how long they took
 *   WRONG stress: page N (own region of thread N), word N: have X, want X, ...
 */

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define PAGE_WORDS      (PAGE / sizeof(uint64_t))
#define SLOW_NS         32000
#define STALL_NS        1000000
#define VISITS          64
#define BUCKETS         (4 * 64)
/* So many stalls are listed in a line. */
#define STALLS          8
#define MAX_THREADS     64
#define MAX_MB          (1UL << 20)

/* The first words of a page; what follows them depends on the first three. */
enum { STAMP_PAGE, STAMP_OWNER, STAMP_SEQUENCE, STAMP_CHECKSUM, STAMP_WORDS };

/* Who wrote a page last, and how often it was written: 0 is never. */
struct expected {
    uint32_t lock;
    uint32_t owner;
    uint32_t sequence;
};

struct stall {
    uint64_t ms;
    uint64_t us;
};

/*
 * A thread, in cache lines of its own.  The counters are written by the thread
 * alone and read by the one that reports, in any order: relaxed.
 */
struct worker {
    unsigned int id;
    uint64_t random;
    uint64_t pages;
    uint64_t passes;
    uint64_t slow[BUCKETS];
    uint64_t stalls;
    /*
     * A queue of stalls.  The thread writes an entry before @listed (release),
     * which the reporter reads before it (acquire); in the same way @taken,
     * the reporter's, says that an entry may be written again.
     */
    uint64_t listed, taken;
    struct stall stall[STALLS];
} __attribute__((aligned(128)));

static struct {
    unsigned long threads;
    unsigned long own;
    unsigned long shared;
    unsigned long write;
    unsigned long rest;
    unsigned long tick;
    bool random;
} options = { .threads = 2, .own = 32, .shared = 8, .write = 90, .tick = 250,
              .random = true };

static const struct {
    const char *name;
    unsigned long *value;
    unsigned long least, most;
} numbers[] = {
    { "threads", &options.threads, 1, MAX_THREADS },
    { "own",     &options.own,     1, MAX_MB },
    { "shared",  &options.shared,  0, MAX_MB },
    { "write",   &options.write,   0, 100 },
    { "rest",    &options.rest,    0, 1000 },
    { "tick",    &options.tick,    1, 60000 },
};

/* All own regions, and the shared one; and the same number of expectations. */
static uint64_t *memory;
static struct expected *expectations;
static size_t own_pages, shared_pages;
static struct worker *workers;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* One to one. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ULL;
    return x ^ x >> 29;
}

/* --- Stamps --- */

/*
 * Any word that changes, and any two that change places, change it.  There are
 * four sums so that a multiplication need not wait for the one before.
 */
static uint64_t checksum(const uint64_t *words)
{
    const uint64_t factor = 0x2545f4914f6cdd1dULL;
    uint64_t a = words[STAMP_PAGE], b = words[STAMP_OWNER];
    uint64_t c = words[STAMP_SEQUENCE], d = 1;

    for (unsigned int i = STAMP_WORDS; i < PAGE_WORDS; i += 4) {
        a = a * factor + words[i];
        b = b * factor + words[i + 1];
        c = c * factor + words[i + 2];
        d = d * factor + words[i + 3];
    }
    return mix(mix(mix(a) + b) + c) + d;
}

static void stamp(uint64_t *words, uint64_t page, uint64_t owner,
                  uint64_t sequence)
{
    uint64_t word = mix(page << 40 ^ owner << 32 ^ sequence);

    for (unsigned int i = STAMP_WORDS; i < PAGE_WORDS; i++) {
        words[i] = word += 0xd1342543de82ef95ULL;
    }
    /* Others touch() it while this thread has the lock. */
    __atomic_store_n(&words[STAMP_PAGE], page, __ATOMIC_RELAXED);
    words[STAMP_OWNER] = owner;
    words[STAMP_SEQUENCE] = sequence;
    words[STAMP_CHECKSUM] = checksum(words);
}

/* Say what is wrong, and end it all. */
static void __attribute__((noreturn))
wrong(const uint64_t *words, uint64_t page, const struct expected *e)
{
    uint64_t want[PAGE_WORDS] = { 0 };
    char where[48] = "shared";
    unsigned int i = 0;

    if (e->sequence) {
        stamp(want, page, e->owner, e->sequence);
    }
    /* All may be right by now; that it was not is what matters. */
    while (i < PAGE_WORDS - 1 && words[i] == want[i]) {
        i++;
    }
    if (page < own_pages * options.threads) {
        snprintf(where, sizeof(where), "own region of thread %" PRIu64,
                 page / own_pages);
    }
    end_all("WRONG stress: page %" PRIu64 " (%s), word %u: have %016" PRIx64
            ", want %016" PRIx64 ", sequence %u", page, where, i, words[i],
            want[i], e->sequence);
}

static bool is_zero(const uint64_t *words)
{
    uint64_t any = 0;

    for (unsigned int i = 0; i < PAGE_WORDS; i++) {
        any |= words[i];
    }
    return !any;
}

static bool is_stamped(const uint64_t *words, uint64_t page,
                       const struct expected *e)
{
    return words[STAMP_PAGE] == page && words[STAMP_OWNER] == e->owner &&
           words[STAMP_SEQUENCE] == e->sequence &&
           words[STAMP_CHECKSUM] == checksum(words);
}

static void check(const uint64_t *words, uint64_t page,
                  const struct expected *e)
{
    if (e->sequence ? !is_stamped(words, page, e) : !is_zero(words)) {
        wrong(words, page, e);
    }
}

/* --- Visits --- */

static uint64_t next_random(struct worker *w)
{
    w->random += 0x9e3779b97f4a7c15ULL;
    return mix(mix(w->random));
}

/* floor(4 * log2(ns)) */
static unsigned int bucket_of(uint64_t ns)
{
    /* 2^63 by the first, second and third power of 2^(1/4), rounded up */
    const uint64_t steps[] = { 0x9837f0518db8a970ULL, 0xb504f333f9de6485ULL,
                               0xd744fccad69d6af5ULL };
    unsigned int shift = __builtin_clzll(ns);
    unsigned int bucket = 4 * (63 - shift);

    for (unsigned int i = 0; i < 3 && ns << shift >= steps[i]; i++) {
        bucket++;
    }
    return bucket;
}

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void list_stall(struct worker *w, uint64_t start, uint64_t ns)
{
    uint64_t taken = __atomic_load_n(&w->taken, __ATOMIC_ACQUIRE);

    if (w->listed - taken == STALLS) {
        return; /* as many as there will be in a line */
    }
    w->stall[w->listed % STALLS] = (struct stall) {
        .ms = start / 1000000, .us = ns / 1000,
    };
    __atomic_store_n(&w->listed, w->listed + 1, __ATOMIC_RELEASE);
}

/* The first access, which waits if the page is missing. */
static void touch(struct worker *w, const uint64_t *words)
{
    uint64_t start = now_ns(), ns;

    __atomic_load_n(words, __ATOMIC_RELAXED);
    ns = now_ns() - start;
    if (ns < SLOW_NS) {
        return;
    }
    count(&w->slow[bucket_of(ns)]);
    if (ns > STALL_NS) {
        count(&w->stalls);
        list_stall(w, start, ns);
    }
}

/* Acquire here, release in unlock(): a shared page and what is expected. */
static void lock(struct expected *e)
{
    while (__atomic_exchange_n(&e->lock, 1, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

static void unlock(struct expected *e)
{
    __atomic_store_n(&e->lock, 0, __ATOMIC_RELEASE);
}

static void check_and_write(struct worker *w, uint64_t *words, uint64_t page,
                            struct expected *e)
{
    check(words, page, e);
    if (e->sequence && next_random(w) % 100 >= options.write) {
        return;
    }
    e->owner = w->id;
    e->sequence++;
    stamp(words, page, e->owner, e->sequence);
}

/* @index: of the pages that a thread visits, its own ones come first. */
static void visit(struct worker *w, size_t index)
{
    bool shared = index >= own_pages;
    size_t page = index + own_pages * (shared ? options.threads - 1 : w->id);
    uint64_t *words = memory + page * PAGE_WORDS;
    struct expected *e = &expectations[page];

    touch(w, words);
    if (shared) {
        lock(e);
        check_and_write(w, words, page, e);
        unlock(e);
    } else {
        check_and_write(w, words, page, e);
    }
    count(&w->pages);
    if (options.rest && w->pages % VISITS == 0) {
        usleep(options.rest * 1000);
    }
}

static void pass_sequential(struct worker *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        visit(w, i);
    }
}

/*
 * A linear congruential generator of full period is a permutation of the
 * numbers below a power of two, and so is what the shift and the odd factor
 * make of them; those that are too large are left out.
 */
static void pass_random(struct worker *w, size_t n)
{
    unsigned int bits = 64 - __builtin_clzll(n - 1);
    uint64_t mask = (1ULL << bits) - 1, x = next_random(w) & mask;
    uint64_t multiplier = (next_random(w) & ~3ULL) | 1;
    uint64_t increment = next_random(w) | 1, odd = next_random(w) | 1;

    for (uint64_t i = 0; i <= mask; i++) {
        uint64_t index = ((x ^ x >> (bits / 2)) * odd) & mask;

        if (index < n) {
            visit(w, index);
        }
        x = (x * multiplier + increment) & mask;
    }
}

static void *work(void *opaque)
{
    struct worker *w = opaque;

    for (;;) {
        if (options.random) {
            pass_random(w, own_pages + shared_pages);
        } else {
            pass_sequential(w, own_pages + shared_pages);
        }
        count(&w->passes);
    }
    return NULL;
}

/* --- Reports --- */

struct text {
    char buf[LINE];
    size_t length;
};

/* Add all of it, and leave @room; or nothing, and return false. */
static bool __attribute__((format(printf, 3, 4)))
append(struct text *text, size_t room, const char *format, ...)
{
    size_t size = sizeof(text->buf) - text->length - room;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text->buf + text->length, size, format, args);
    va_end(args);
    if (n >= size) {
        text->buf[text->length] = 0;
        return false;
    }
    text->length += n;
    return true;
}

/* Of all threads; @offset is that of the counter in struct worker. */
static uint64_t sum(size_t offset)
{
    uint64_t total = 0;

    for (unsigned int i = 0; i < options.threads; i++) {
        total += __atomic_load_n(
            (uint64_t *)((char *)&workers[i] + offset), __ATOMIC_RELAXED);
    }
    return total;
}

static uint64_t least_passes(void)
{
    uint64_t least = UINT64_MAX;

    for (unsigned int i = 0; i < options.threads; i++) {
        uint64_t n = __atomic_load_n(&workers[i].passes, __ATOMIC_RELAXED);

        least = n < least ? n : least;
    }
    return least;
}

/* Buckets for which there is no room are in the next line. */
static void append_slow(struct text *text)
{
    static uint64_t before[BUCKETS];
    const char *between = " slow=";

    for (unsigned int i = 0; i < BUCKETS; i++) {
        uint64_t n = sum(offsetof(struct worker, slow[i]));

        if (n == before[i]) {
            continue;
        }
        /* Stalls should be in the same line: how many, and the first ones. */
        if (!append(text, 80, "%s%u:%" PRIu64, between, i, n - before[i])) {
            return;
        }
        before[i] = n;
        between = ",";
    }
}

/* The thread whose next stall is the earliest one; or NULL. */
static struct worker *earliest_stall(void)
{
    struct worker *earliest = NULL;
    uint64_t ms = UINT64_MAX;

    for (unsigned int i = 0; i < options.threads; i++) {
        struct worker *w = &workers[i];
        struct stall *stall = &w->stall[w->taken % STALLS];

        if (w->taken != __atomic_load_n(&w->listed, __ATOMIC_ACQUIRE) &&
            stall->ms < ms) {
            ms = stall->ms;
            earliest = w;
        }
    }
    return earliest;
}

/* Those for which there is no room are only counted. */
static void append_stalls(struct text *text)
{
    static uint64_t before;
    uint64_t n = sum(offsetof(struct worker, stalls)) - before;
    const char *between = " at=";
    struct worker *w;
    bool more;

    if (!n) {
        return;
    }
    more = append(text, 0, " stalls=%" PRIu64, n);
    /* What is listed meanwhile is counted in the next line, and listed there. */
    for (uint64_t i = 0; i < n && (w = earliest_stall()); i++) {
        const struct stall *stall = &w->stall[w->taken % STALLS];

        more = more && i < STALLS &&
               append(text, 0, "%s%" PRIu64 ":%" PRIu64, between, stall->ms,
                      stall->us);
        between = ",";
        __atomic_store_n(&w->taken, w->taken + 1, __ATOMIC_RELEASE);
    }
    before += n;
}

static void report(void)
{
    struct text text = { .length = 0 };

    append(&text, 0, "stress: t=%" PRIu64 " pages=%" PRIu64 " pass=%" PRIu64,
           now_ns() / 1000000, sum(offsetof(struct worker, pages)),
           least_passes());
    append_slow(&text);
    append_stalls(&text);
    say("%s", text.buf);
}

/* --- Start --- */

static void __attribute__((noreturn)) refuse(const char *option)
{
    errno = EINVAL;
    die(option);
}

/* False if it is not one of these. */
static bool set_order(const char *value)
{
    options.random = !strcmp(value, "random");
    return options.random || !strcmp(value, "sequential");
}

static bool set_number(const char *name, const char *value)
{
    for (int i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        unsigned long number;
        char *end;

        if (strcmp(name, numbers[i].name)) {
            continue;
        }
        number = strtoul(value, &end, 10);
        *numbers[i].value = number;
        return end != value && !*end && number >= numbers[i].least &&
               number <= numbers[i].most;
    }
    return false;
}

static void set_option(const char *option)
{
    const char *value = strchr(option, '=');
    char name[16] = "";

    if (!value || value - option >= sizeof(name)) {
        refuse(option);
    }
    memcpy(name, option, value - option);
    value++;
    if (!(strcmp(name, "order") ? set_number(name, value) : set_order(value))) {
        refuse(option);
    }
}

static void set_options(char *arg)
{
    char *save;

    for (char *option = strtok_r(arg, ":", &save); option;
         option = strtok_r(NULL, ":", &save)) {
        set_option(option);
    }
}

static void start_worker(unsigned int id)
{
    pthread_t thread;

    workers[id].id = id;
    workers[id].random = id;
    errno = pthread_create(&thread, NULL, work, &workers[id]);
    if (errno) {
        die("pthread_create");
    }
}

void work_stress(char *arg)
{
    size_t pages;

    if (arg) {
        set_options(arg);
    }
    own_pages = options.own * MB / PAGE;
    shared_pages = options.shared * MB / PAGE;
    pages = options.threads * own_pages + shared_pages;
    memory = allocate(pages * PAGE);
    expectations = allocate(pages * sizeof(*expectations));
    workers = allocate(options.threads * sizeof(*workers));
    say("stress: up threads=%lu own=%lu shared=%lu order=%s write=%lu rest=%lu "
        "tick=%lu pages=%zu at=%p", options.threads, options.own,
        options.shared, options.random ? "random" : "sequential",
        options.write, options.rest, options.tick, pages, (void *)memory);
    for (unsigned int i = 0; i < options.threads; i++) {
        start_worker(i);
    }
    for (;;) {
        usleep(options.tick * 1000);
        report();
    }
}
