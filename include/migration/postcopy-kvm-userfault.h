/*
 * Postcopy with KVM userfault: what the rest of QEMU has to know
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_POSTCOPY_KVM_USERFAULT_H
#define MIGRATION_POSTCOPY_KVM_USERFAULT_H

#include "qemu/notify.h"

/**
 * postcopy_kvm_userfault_active: may pages be missing, with KVM userfault?
 *
 * True from the moment at which the source announces postcopy (its RAM has not
 * been touched yet) until all memory has arrived.  Any thread.
 */
bool postcopy_kvm_userfault_active(void);

/**
 * postcopy_kvm_userfault_allows: refuse what reads or writes all of RAM
 *
 * @what: the command or option, for the error message
 *
 * Returns false, with *@errp set, while postcopy_kvm_userfault_active().
 */
bool postcopy_kvm_userfault_allows(const char *what, Error **errp);

/**
 * postcopy_kvm_userfault_vm_supported: does nothing in this VM bypass the RAM
 * wait?
 *
 * Kernel threads and other processes that touch guest RAM do not see which
 * pages are missing.  Names the first such device, network backend or memory
 * in *@errp.  Called with the BQL held.  See system/ram-bypass.h.
 */
bool postcopy_kvm_userfault_vm_supported(Error **errp);

/**
 * postcopy_kvm_userfault_may_plug: the same, after a device was created and
 * before it is realized
 *
 * Returns true unless postcopy_kvm_userfault_active().  Called with the BQL
 * held, when the device has its properties and its place in the object tree.
 */
bool postcopy_kvm_userfault_may_plug(Error **errp);

/**
 * postcopy_kvm_userfault_may_unplug: refuse to take away memory that vCPUs may
 * wait for
 *
 * Returns true unless postcopy_kvm_userfault_active().  Called with the BQL
 * held.
 */
bool postcopy_kvm_userfault_may_unplug(DeviceState *dev, Error **errp);

/**
 * postcopy_kvm_userfault_add_over_notifier: be told when memory is all there
 *
 * @notifier is called in the main loop, with the BQL held, soon after
 * postcopy_kvm_userfault_active() was true for the last time: when the
 * migration has completed, and also when it has ended in another way and left
 * the VM as it is.  Called before a migration comes in.
 */
void postcopy_kvm_userfault_add_over_notifier(Notifier *notifier);

#endif /* MIGRATION_POSTCOPY_KVM_USERFAULT_H */
