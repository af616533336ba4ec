/*
 * What may come in a postcopy stream, and where
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_STREAM_H
#define QEMU_MIGRATION_POSTCOPY_STREAM_H

#include "migration/register.h"
#include "migration.h"

/*
 * When postcopy begins, there are two streams: the package, which the main
 * thread reads, and what the listen thread gets.  Most commands are for
 * neither, and what is for the one is wrong in the other: the main thread holds
 * the BQL, and the guest does not run; the listen thread does not hold it, and
 * the guest may run.
 */
typedef enum PostcopyStreamPlace {
    POSTCOPY_IN_PACKAGE = 1 << 0,
    /* From LISTEN to the end, beside the package. */
    POSTCOPY_WITH_PAGES = 1 << 1,
} PostcopyStreamPlace;

/**
 * postcopy_stream_takes: may this come now?
 *
 * @f: the stream that it has come in
 * @places: where it may come; anything may before postcopy begins
 * @what: for the error, which is reported
 *
 * To be asked before anything is changed.
 */
bool postcopy_stream_takes(MigrationIncomingState *mis, QEMUFile *f,
                           unsigned int places, const char *what);

/* May a part of what has these handlers come now?  As above. */
bool postcopy_stream_takes_part(MigrationIncomingState *mis, QEMUFile *f,
                                const SaveVMHandlers *ops, void *opaque,
                                const char *name);

/* Are these whole pages of the block, and at least one?  Bytes. */
bool postcopy_stream_range(RAMBlock *rb, uint64_t start, uint64_t length,
                           Error **errp);

/**
 * postcopy_stream_request: can the source send what it is asked for?
 *
 * In the return path's thread, and in an RCU critical section.
 */
bool postcopy_stream_request(RAMBlock *rb, uint64_t start, uint64_t length,
                             Error **errp);

#endif /* QEMU_MIGRATION_POSTCOPY_STREAM_H */
