/*
 * Which side of a postcopy migration has the guest
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "migration.h"
#include "options.h"
#include "postcopy-commit.h"
#include "postcopy-fault.h"
#include "postcopy-ram.h"
#include "qemu-file.h"
#include "savevm.h"
#include "trace.h"

/* What upstream's sources send at the end of the package, and behind it. */
#define PING_LOADED 3
#define PING_SENT   4

/* "KUF", and a number. */
#define PING_ASK    0x4b554601
#define PING_COMMIT 0x4b554602
#define PONG_WAITS  0x4b554603

/* How long to wait for requests and for PONG 3 before looking again. */
#define HOLD_MS 10

/*
 * The return path's thread sets @waits and @loaded, of which the second means
 * what it says only after the first: the destination sends them in this order,
 * and one thread gets them.  The migration thread sets @sent, and is the only
 * one to decide anything.  Plain atomics will do.
 */
static struct {
    bool waits;
    bool loaded;
    bool no_pong;
    bool sent;
} source;

/* Of the destination.  Main thread until LISTEN, then the listen thread. */
static struct {
    bool asked;
    bool committed;
} dest;

/* --- Source --- */

void postcopy_commit_ask(MigrationState *s)
{
    qatomic_set(&source.waits, false);
    qatomic_set(&source.loaded, false);
    qatomic_set(&source.no_pong, false);
    source.sent = false;
    if (migrate_postcopy_ram() && s->postcopy_commit) {
        qemu_savevm_send_ping(s->to_dst_file, PING_ASK);
    }
}

void postcopy_commit_pong(MigrationState *s, uint32_t value)
{
    if (value == PONG_WAITS) {
        qatomic_set(&source.waits, true);
    } else if (value == PING_LOADED && qatomic_read(&source.waits)) {
        /* Pairs with postcopy_commit_try(). */
        qatomic_set(&source.loaded, true);
        migration_make_urgent_request();
    }
}

void postcopy_commit_no_pong(MigrationState *s)
{
    qatomic_set(&source.no_pong, true);
}

/* The guest is not given up yet, and will be when PONG 3 has come. */
static bool has_guest(void)
{
    return qatomic_read(&source.waits) && !source.sent;
}

bool postcopy_commit_holds(MigrationState *s)
{
    return s->state == MIGRATION_STATUS_POSTCOPY_ACTIVE && has_guest();
}

void postcopy_commit_try(MigrationState *s)
{
    if (!postcopy_commit_holds(s)) {
        return;
    }
    if (qatomic_read(&source.loaded)) {
        migration_consume_urgent_request();
        source.sent = true;
        trace_postcopy_commit();
        qemu_savevm_send_ping(s->to_dst_file, PING_COMMIT);
        return;
    }
    if (qatomic_read(&source.no_pong)) {
        /*
         * The destination has ended the return path, and be it to say that all
         * is well: the guest can only go on here.
         */
        qemu_file_set_error(s->to_dst_file, -EPIPE);
        return;
    }
    /* The destination's requests are urgent, too; whoever serves them counts */
    if (!qemu_sem_timedwait(&s->rate_limit_sem, HOLD_MS)) {
        qemu_sem_post(&s->rate_limit_sem);
    }
}

void postcopy_commit_wait(MigrationState *s)
{
    while (postcopy_commit_holds(s) && !qemu_file_get_error(s->to_dst_file)) {
        postcopy_commit_try(s);
    }
}

bool postcopy_commit_keep(MigrationState *s)
{
    if (!postcopy_commit_holds(s)) {
        return false;
    }
    error_report("The link broke before the destination was given the guest: "
                 "it goes on here; end the destination, which has not run it");
    WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
        if (s->error) {
            error_prepend(&s->error, "The guest goes on at the source, since "
                          "the destination was not given it yet; end the "
                          "destination: ");
        }
    }
    return true;
}

bool postcopy_commit_given_up(MigrationState *s)
{
    return s->state == MIGRATION_STATUS_POSTCOPY_ACTIVE &&
           migrate_postcopy_ram() && !has_guest();
}

/* --- Destination --- */

void postcopy_commit_reset(void)
{
    dest.asked = false;
    dest.committed = false;
}

static void commit(MigrationIncomingState *mis)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    if (!dest.committed && ops && ops->committed) {
        dest.committed = true;
        trace_postcopy_committed();
        ops->committed(mis);
    }
}

uint32_t postcopy_commit_ping(MigrationIncomingState *mis, uint32_t value)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    switch (value) {
    case PING_ASK:
        dest.asked = ops && ops->committed;
        return dest.asked ? PONG_WAITS : value;
    case PING_SENT:
        if (!dest.asked && postcopy_fault_listens(mis)) {
            commit(mis);
        }
        return value;
    case PING_COMMIT:
        commit(mis);
        return value;
    default:
        return value;
    }
}

bool postcopy_commit_came(MigrationIncomingState *mis)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    if (dest.committed || !ops || !ops->committed) {
        return true;
    }
    error_report("The migration stream has ended, but the source has not said "
                 "that it gives the guest up; recover the migration, and it "
                 "will");
    return false;
}

void postcopy_commit_resume(MigrationIncomingState *mis)
{
    commit(mis);
}
