/*
 * Postcopy with KVM userfault, where there is no KVM
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "migration/postcopy-kvm-userfault.h"
#include "system/kvm-userfault.h"
#include "postcopy-around.h"
#include "postcopy-fault.h"

static bool not_supported_by_host(MigrationIncomingState *mis, Error **errp)
{
    return kvm_userfault_supported(errp);
}

const PostcopyFaultOps postcopy_kvm_userfault_ops = {
    .backend = POSTCOPY_FAULT_BACKEND_KVM_USERFAULT,
    .supported_by_host = not_supported_by_host,
};

static bool no_userfaultfd(MigrationIncomingState *mis, Error **errp)
{
    error_setg(errp, "Userfaultfd not available: this is not Linux");
    return false;
}

const PostcopyFaultOps postcopy_userfaultfd_ops = {
    .backend = POSTCOPY_FAULT_BACKEND_USERFAULTFD,
    .supported_by_host = no_userfaultfd,
};

void postcopy_around_reset(void)
{
}

size_t postcopy_around_take(RAMBlock *rb, ram_addr_t start, size_t len,
                            size_t unit)
{
    return len;
}

bool postcopy_around_send(MigrationState *s, QEMUFile *rp, Error **errp)
{
    return true;
}

bool postcopy_kvm_userfault_active(void)
{
    return false;
}

bool postcopy_kvm_userfault_allows(const char *what, Error **errp)
{
    return true;
}

void postcopy_kvm_userfault_add_over_notifier(Notifier *notifier)
{
}
