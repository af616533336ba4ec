/*
 * Who gets at guest memory past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_RAM_BYPASS_H
#define SYSTEM_RAM_BYPASS_H

#include "qapi/qapi-types-net.h"
#include "qemu/queue.h"
#include "qemu/typedefs.h"

/*
 * While pages of guest memory are missing, the RAM wait holds up whoever
 * uses the memory API, see system/ram-wait.h.  Kernel threads, other
 * processes, hardware, and code with a pointer of its own into a memory backend
 * are not held up: they bypass it.  Each says so here, in its own code:
 *
 * - a device of which each one does, in its class_init;
 * - all others by a RAMBypass of their own, from before they get at guest
 *   memory until they do so no more.
 *
 * Postcopy with KVM userfault does not begin while there is one.  While it
 * goes on, none can be added and none can be started.
 *
 * Who has forgotten to say so is mostly found by its MemoryListener, by which
 * it learns where guest memory is: those that are not known are refused.
 */

/* Why it is refused: what follows "... does not work with device 'x': " */
#define RAM_BYPASS_PROCESS  "another process accesses guest memory for it"
#define RAM_BYPASS_KERNEL   "the host's kernel accesses guest memory for it"
#define RAM_BYPASS_HARDWARE "the host's hardware accesses guest memory for it"
#define RAM_BYPASS_SHARED   "other processes access its memory"
#define RAM_BYPASS_POINTER  "it has memory of its own that QEMU does not guard"
#define RAM_BYPASS_PERSISTENT "its memory is written back to a file while a " \
                              "part of it is missing"
#define RAM_BYPASS_RESIZES  "it gives guest memory back to the host"
#define RAM_BYPASS_PRIVATE  "QEMU can't write to its memory"
#define RAM_BYPASS_UNGUARDED "it accesses guest memory unguarded"

/**
 * RAMBypass: somebody who gets at guest memory past the RAM wait
 *
 * Belongs to whom it stands for, and is all zeros at first.  None of the fields
 * has to be set.
 */
typedef struct RAMBypass {
    /* A reason as above.  NULL stands for RAM_BYPASS_UNGUARDED. */
    const char *why;

    /* What to do about it, if that is not to remove it. */
    const char *advice;

    /*
     * Who it is, for messages: the first that is set of
     * - this network backend, of this type,
     * - these words,
     * - the object in whose memory @part lies,
     * - the object in whose memory the RAMBypass itself lies.
     */
    const char *netdev;
    NetClientDriver netdev_type;
    const char *words;
    const void *part;

    /*
     * QEMU does its work for as long as it is not started: it may be added at
     * any time, and postcopy may begin.
     */
    bool postponable;

    /* Private */
    bool registered;
    QLIST_ENTRY(RAMBypass) next;
} RAMBypass;

/**
 * ram_bypass_register: before it gets at guest memory
 *
 * Returns false, with *@errp set, if pages may be missing and @bypass is not
 * postponable.  Called with the BQL held, once.
 */
bool ram_bypass_register(RAMBypass *bypass, Error **errp);

/**
 * ram_bypass_unregister: it does not get at guest memory any more
 *
 * Does nothing if @bypass is not registered.  Called with the BQL held.
 */
void ram_bypass_unregister(RAMBypass *bypass);

/**
 * ram_bypass_may_register: would ram_bypass_register() succeed?
 *
 * For those who want to know before they begin, e.g. because they would wait
 * for another process, or could not tell the user why they fail.
 */
bool ram_bypass_may_register(const RAMBypass *bypass, Error **errp);

/**
 * ram_bypass_may_start: may it get at guest memory now?
 *
 * The last gate: false, with *@errp set, while pages may be missing, for
 * everybody.  Called with the BQL held.
 */
bool ram_bypass_may_start(const RAMBypass *bypass, Error **errp);

/**
 * ram_bypass_set_class: each object of this class, and of those that inherit
 * from it, gets at guest memory past the RAM wait
 *
 * @why: a reason as above
 *
 * Called by class_init.
 */
void ram_bypass_set_class(ObjectClass *klass, const char *why);

/**
 * ram_bypass_may_listen: may @listener learn where guest memory is?
 *
 * Called for each MemoryListener before it is registered.  Those that are told
 * of sections of memory and that are not known to be safe, or to belong to
 * somebody who registers, keep postcopy from beginning.  While it goes on they
 * are refused, with an error: without memory a device does not work, but does
 * not do harm.  Called with the BQL held.
 */
bool ram_bypass_may_listen(MemoryListener *listener);

/* @listener is not registered any more, or never was. */
void ram_bypass_listener_gone(MemoryListener *listener);

/**
 * ram_bypass_may_plug: is there no object of such a class?
 *
 * For a device that was created and is not yet realized.  True unless pages may
 * be missing.  Called with the BQL held, when the device has its place in the
 * object tree.
 */
bool ram_bypass_may_plug(Error **errp);

/**
 * ram_bypass_none: is there nobody who can't be postponed?
 *
 * Names the first in *@errp, and says to switch postcopy-kvm-userfault off.
 * Called with the BQL held.
 */
bool ram_bypass_none(Error **errp);

/**
 * ram_bypass_refuse: the error that all of the above set
 *
 * @what: names it, e.g. "device 'x' (type)"
 * @why, @advice: as in RAMBypass; @advice may be NULL
 */
void ram_bypass_refuse(Error **errp, const char *what, const char *why,
                       const char *advice);

#endif /* SYSTEM_RAM_BYPASS_H */
