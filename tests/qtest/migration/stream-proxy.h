/*
 * A bad source: what stands between two QEMUs that migrate
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef STREAM_PROXY_H
#define STREAM_PROXY_H

/* What the destination gets instead of the source's stream, once. */
typedef enum StreamFault {
    STREAM_FAULT_NONE,
    /* The connection breaks: */
    STREAM_CUT_HEADER,      /* in the stream's first bytes */
    STREAM_CUT_PRECOPY,     /* in a page, while the source runs */
    STREAM_CUT_DISCARD,     /* in the first list of discarded pages */
    STREAM_CUT_PACKAGE,     /* in the package with the device state */
    STREAM_CUT_LISTENING,   /* behind it, before any answer to it */
    STREAM_CUT_COMMIT,      /* before the source says: it gives up the guest */
    STREAM_CUT_END,         /* behind all of it, before any answer to that */
    /* Otherwise: */
    STREAM_NO_COMMIT,       /* another message comes instead of that one */
    /* After stream_proxy_arm(): */
    STREAM_CUT_POSTCOPY,    /* in a page, while the destination runs */
    STREAM_EARLY_END,       /* a proper end while pages are missing */
    STREAM_REPEATED_PAGES,  /* old contents of pages, at the end */
    STREAM_BEYOND_BLOCK,    /* a page at an offset that the block hasn't */
    STREAM_UNKNOWN_BLOCK,   /* a page of a block that isn't there */
    STREAM_UNKNOWN_FLAGS,   /* a page with a flag that means nothing */
} StreamFault;

typedef struct StreamProxy StreamProxy;

/*
 * Pass a postcopy-ram stream, without preempt, on to the destination.
 *
 * @source and @destination are set to the fds for the two QEMUs.
 */
StreamProxy *stream_proxy_new(StreamFault fault, int *source,
                              int *destination);

/* The destination runs: now do what is to be done in postcopy. */
void stream_proxy_arm(StreamProxy *proxy);

/* How many pages were sent again; the stream is over. */
unsigned int stream_proxy_repeated(StreamProxy *proxy);

/* Breaks the connection, if that hasn't happened. */
void stream_proxy_free(StreamProxy *proxy);

#endif /* STREAM_PROXY_H */
