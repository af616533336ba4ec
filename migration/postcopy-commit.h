/*
 * Which side of a postcopy migration has the guest
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_COMMIT_H
#define QEMU_MIGRATION_POSTCOPY_COMMIT_H

#include "migration.h"

/*
 * When postcopy begins, the source sends the device state in a package and
 * stops to own the guest.  If the link breaks about then, it does not know
 * whether the destination got the package and runs the guest: it can't go on,
 * and if the package was lost, nobody can.
 *
 * So the destination loads the devices and does not run the guest before the
 * source has said that it gives it up.  The messages are PINGs and PONGs with
 * values of their own, which a QEMU that does not know them answers and
 * ignores:
 *
 *   source                                destination
 *   ------                                -----------
 *   PING ask, behind ADVISE
 *                                         PONG waits, if it knows of this
 *   package, PING 3 at its end
 *                                         (device state is loaded)
 *                                         PONG 3
 *   PING commit
 *                                         (the guest runs)
 *
 * A source that loses the link before it has sent "commit" goes on: the
 * destination has not run the guest, and never will.  Afterwards the migration
 * is paused on both sides, and can be recovered; RESUME commits, too.
 *
 * A source that does not ask has given the guest up when it sends PING 4, right
 * behind the package: if an error came before, it goes on.  A destination that
 * does not answer "waits" gets what it always got.
 */

/* --- Source.  In the migration thread unless it says otherwise --- */

/* The source has sent ADVISE. */
void postcopy_commit_ask(MigrationState *s);

/* Got a PONG.  In the return path's thread. */
void postcopy_commit_pong(MigrationState *s, uint32_t value);

/* The return path has ended: nobody need wait for it.  In its thread. */
void postcopy_commit_no_pong(MigrationState *s);

/**
 * postcopy_commit_holds: does the destination still need but what it asks for?
 *
 * Until it has loaded the devices, nothing else is sent: the rest would delay
 * these pages, and the message that lets the guest run.
 */
bool postcopy_commit_holds(MigrationState *s);

/*
 * Give the guest up, if the destination has loaded the devices; if not, wait a
 * bit for that, or for a request.
 */
void postcopy_commit_try(MigrationState *s);

/* All pages are sent: wait until the guest is given up, or the link breaks. */
void postcopy_commit_wait(MigrationState *s);

/*
 * The link broke in postcopy.  True if the guest is still the source's, and
 * then it stays so; the error that the user sees says it.
 */
bool postcopy_commit_keep(MigrationState *s);

/*
 * The migration could not be completed.  True if the guest is no longer the
 * source's: then it must not run here, and the migration can be recovered.
 */
bool postcopy_commit_given_up(MigrationState *s);

/* --- Destination --- */

/* The source announces postcopy. */
void postcopy_commit_reset(void);

/**
 * postcopy_commit_ping: got a PING
 *
 * Returns the value that the PONG has.
 */
uint32_t postcopy_commit_ping(MigrationIncomingState *mis, uint32_t value);

/**
 * postcopy_commit_came: the stream has ended; has the guest been given up?
 *
 * A source that is whole has said so before.  If what it said got lost, the
 * guest would run nowhere, although all is here: the end of a stream is no
 * such message, for one byte can be taken for it.  False, and an error is
 * reported, if the migration is to be paused instead; RESUME commits.  In the
 * listen thread.
 */
bool postcopy_commit_came(MigrationIncomingState *mis);

/* Got RESUME. */
void postcopy_commit_resume(MigrationIncomingState *mis);

#endif /* QEMU_MIGRATION_POSTCOPY_COMMIT_H */
