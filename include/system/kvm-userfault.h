/*
 * KVM userfault: vCPUs leave KVM_RUN for pages that are missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_USERFAULT_H
#define SYSTEM_KVM_USERFAULT_H

#include "exec/cpu-common.h"
#include "qapi/qapi-types-common.h"
#include "qapi/qapi-types-machine.h"

/*
 * The kernel's half is described in Linux's Documentation/virt/kvm/api.rst,
 * KVM_CAP_USERFAULT.  The bitmaps are views, see system/userfault-view.h; what
 * a vCPU waits for is a RAMWaiter, see system/ram-wait.h.
 */

/* What KVM_CAP_USERFAULT says of this host; none without KVM. */
KvmUserfaultSupport kvm_userfault_host(void);

/**
 * kvm_userfault_setting: what -accel kvm,userfault=on|off|auto says
 *
 * Without KVM it is 'auto': nobody has forbidden it, and it is up to
 * kvm_userfault_supported() to say that there is no KVM.
 */
OnOffAuto kvm_userfault_setting(void);

/**
 * kvm_userfault_check_accel: exit if userfault=on was asked for in vain
 *
 * With a list of accelerators, another one may have been taken.  Called when
 * it was.
 */
void kvm_userfault_check_accel(void);

/**
 * kvm_userfault_supported: does KVM keep everybody off missing pages?
 *
 * Both halves are needed: vCPUs, and KVM's own accesses.  What KVM says of
 * itself is tried, the first time that it is asked for, with a VM that has no
 * vCPU and is gone again: it takes about a millisecond, once.  Called in the
 * main thread.
 */
bool kvm_userfault_supported(Error **errp);

/**
 * kvm_userfault_arm: make the memslots fault on missing pages
 *
 * Every slot with a missing page gets a view, and so does each that is created
 * until kvm_userfault_disarm().  Called with the BQL held and all vCPUs
 * stopped, after RAMBlock.receivedmap and postcopy_length are set.
 */
bool kvm_userfault_arm(Error **errp);

/**
 * kvm_userfault_disarm: all pages are present
 *
 * Takes the flag off all slots; KVM maps huge pages again.  Needs no lock, and
 * may be called when nothing is armed.
 */
void kvm_userfault_disarm(void);

/**
 * kvm_userfault_state_pages: the pages that KVM touches when it gets vCPU state
 *
 * @fn: called for each host page, as a block and an aligned byte offset; a
 *   page can come more than once
 *
 * Setting MSRs makes KVM read or write guest memory, and it fails where the
 * page is missing.  Called with the BQL held, after the vCPUs' state was loaded
 * and before it is given to KVM.
 *
 * Returns false if this can't be told page by page: then all of memory has to
 * be there first.  @errp says which vCPU that is and what it does, e.g. "vCPU 0
 * runs a nested guest".
 */
bool kvm_userfault_state_pages(void (*fn)(RAMBlock *rb, ram_addr_t offset,
                                          void *opaque),
                               void *opaque, Error **errp);

/* Counts of exits for a page that had arrived meanwhile. */
uint64_t kvm_userfault_spurious(void);

#endif /* SYSTEM_KVM_USERFAULT_H */
