/*
 * Who catches accesses to pages that postcopy has yet to bring
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "system/kvm-userfault.h"
#include "system/runstate.h"
#include "migration.h"
#include "options.h"
#include "postcopy-fault.h"
#include "postcopy-ram.h"

/* Of this migration, or of the last one; NULL before. */
static const PostcopyFaultOps *used;

static const PostcopyFaultOps *ops_of(const bool *caps)
{
    return caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] ?
           &postcopy_kvm_userfault_ops : &postcopy_userfaultfd_ops;
}

const PostcopyFaultOps *postcopy_fault_ops(void)
{
    return ops_of(migrate_get_current()->capabilities);
}

const PostcopyFaultOps *postcopy_fault_begin(void)
{
    used = postcopy_fault_ops();
    return used;
}

void postcopy_fault_init(MigrationState *s)
{
    if (kvm_userfault_requested()) {
        s->capabilities[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] = true;
    }
}

static bool cap_changes(const bool *old_caps, const bool *new_caps, int cap)
{
    return old_caps[cap] != new_caps[cap];
}

/* Only the destination has to be able to do it. */
static bool probe(const bool *old_caps, const bool *new_caps, Error **errp)
{
    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        return true;
    }
    if (!new_caps[MIGRATION_CAPABILITY_POSTCOPY_RAM]) {
        /* Say early what will not work later. */
        return !new_caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] ||
               kvm_userfault_supported(errp);
    }
    /* This is reasonably expensive, so only when something changes. */
    if (!cap_changes(old_caps, new_caps, MIGRATION_CAPABILITY_POSTCOPY_RAM) &&
        !cap_changes(old_caps, new_caps,
                     MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT)) {
        return true;
    }
    return ops_of(new_caps)->supported_by_host(migration_incoming_get_current(),
                                               errp);
}

bool postcopy_fault_caps_check(const bool *old_caps, const bool *new_caps,
                               Error **errp)
{
    ERRP_GUARD();
    PostcopyState ps = postcopy_state_get();

    if (cap_changes(old_caps, new_caps,
                    MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT) &&
        ps >= POSTCOPY_INCOMING_ADVISE && ps < POSTCOPY_INCOMING_END &&
        migration_incoming_get_current()->from_src_file) {
        error_setg(errp, "Capability 'postcopy-kvm-userfault' can't be changed "
                   "while a postcopy migration comes in; set it before "
                   "'migrate-incoming'");
        return false;
    }
    if (new_caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] &&
        new_caps[MIGRATION_CAPABILITY_X_COLO]) {
        error_setg(errp, "Capability 'postcopy-kvm-userfault' is not "
                   "compatible with 'x-colo'; switch one of them off");
        return false;
    }
    if (probe(old_caps, new_caps, errp)) {
        return true;
    }
    if (!new_caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] &&
        kvm_userfault_host() == KVM_USERFAULT_SUPPORT_FULL) {
        error_prepend(errp, "Postcopy is not supported unless capability "
                      "'postcopy-kvm-userfault' is set first: ");
    } else {
        error_prepend(errp, "Postcopy is not supported: ");
    }
    return false;
}

bool postcopy_fault_transport_check(const MigrationAddress *addr, Error **errp)
{
    if (addr->transport != MIGRATION_ADDRESS_TYPE_RDMA ||
        !migrate_postcopy_kvm_userfault()) {
        return true;
    }
    error_setg(errp, "Capability 'postcopy-kvm-userfault' is not compatible "
               "with RDMA, which writes to guest memory by itself; switch it "
               "off or use another transport");
    return false;
}

void postcopy_fault_fill_info(MigrationInfo *info)
{
    if (!used) {
        return;
    }
    info->postcopy_fault = g_new0(PostcopyFaultInfo, 1);
    info->postcopy_fault->backend = used->backend;
    if (used->fill_info) {
        used->fill_info(info->postcopy_fault);
    }
}

static void print_histogram(Monitor *mon, const char *name, uint64List *list)
{
    unsigned long us = 1;

    monitor_printf(mon, "%s (us: pages):", name);
    for (; list; list = list->next, us *= 2) {
        if (list->value) {
            monitor_printf(mon, " %lu: %" PRIu64, us, list->value);
        }
    }
    monitor_printf(mon, "\n");
}

void postcopy_fault_print_info(Monitor *mon, const PostcopyFaultInfo *info)
{
    KvmUserfaultStats *stats = info->kvm_userfault;

    monitor_printf(mon, "postcopy fault backend: %s\n",
                   PostcopyFaultBackend_str(info->backend));
    if (!stats) {
        return;
    }
    monitor_printf(mon, "vcpu faults: %" PRIu64 "\n", stats->vcpu_faults);
    print_histogram(mon, "vcpu fault latency", stats->vcpu_latency);
    monitor_printf(mon, "barrier waits: %" PRIu64 "\n", stats->barrier_waits);
    print_histogram(mon, "barrier latency", stats->barrier_latency);
    monitor_printf(mon, "eager pages: %" PRIu64 ", waited %" PRIu64 " us\n",
                   stats->eager_pages, stats->eager_wait);
    monitor_printf(mon, "spurious exits: %" PRIu64 "\n",
                   stats->spurious_exits);
    monitor_printf(mon, "duplicate pages: %" PRIu64 "\n",
                   stats->duplicate_pages);
}
