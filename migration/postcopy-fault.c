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
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "exec/target_page.h"
#include "system/kvm-userfault.h"
#include "system/runstate.h"
#include "migration.h"
#include "options.h"
#include "postcopy-fault.h"
#include "postcopy-ram.h"
#include "qemu-file.h"

/* The last one that was latched, for query-migrate; NULL before. */
static const PostcopyFaultOps *used;

/* RDMA writes to guest memory by itself.  Set before RAM can come in. */
static bool incoming_rdma;

/* --- Which backend --- */

static bool kvm_userfault_possible(MigrationIncomingState *mis,
                                   const bool *caps, Error **errp)
{
    if (kvm_userfault_setting() == ON_OFF_AUTO_OFF) {
        error_setg(errp, "KVM userfault is forbidden by '-accel "
                   "kvm,userfault=off'");
        return false;
    }
    if (caps[MIGRATION_CAPABILITY_X_COLO]) {
        error_setg(errp, "KVM userfault is not compatible with capability "
                   "'x-colo'; switch one of them off");
        return false;
    }
    if (incoming_rdma) {
        error_setg(errp, "KVM userfault is not compatible with RDMA, which "
                   "writes to guest memory by itself; use another transport");
        return false;
    }
    return postcopy_kvm_userfault_ops.supported_by_host(mis, errp);
}

/*
 * The backend for these capabilities, or NULL with the reasons.  It depends on
 * the host and the VM, too, so the answer holds for now.
 */
static const PostcopyFaultOps *choose(MigrationIncomingState *mis,
                                      const bool *caps, Error **errp)
{
    Error *userfaultfd_err = NULL, *kvm_err = NULL;

    if (caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT]) {
        return kvm_userfault_possible(mis, caps, errp) ?
               &postcopy_kvm_userfault_ops : NULL;
    }
    if (postcopy_userfaultfd_ops.supported_by_host(mis, &userfaultfd_err)) {
        return &postcopy_userfaultfd_ops;
    }
    if (kvm_userfault_possible(mis, caps, &kvm_err)) {
        error_free(userfaultfd_err);
        return &postcopy_kvm_userfault_ops;
    }
    error_setg(errp, "%s; and without userfaultfd: %s",
               error_get_pretty(userfaultfd_err), error_get_pretty(kvm_err));
    error_free(userfaultfd_err);
    error_free(kvm_err);
    return NULL;
}

bool postcopy_fault_latch(MigrationIncomingState *mis, Error **errp)
{
    const bool *caps = migrate_get_current()->capabilities;
    const PostcopyFaultOps *ops = choose(mis, caps, errp);

    if (!ops) {
        return false;
    }
    if (ops == &postcopy_kvm_userfault_ops &&
        !caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT]) {
        warn_report("userfaultfd does not work for this VM on this host: "
                    "postcopy uses KVM userfault instead");
    }
    if (ops->pieces) {
        /* Nothing is collected; see postcopy_temp_pages_setup(). */
        mis->largest_page_size = qemu_target_page_size();
    }
    used = ops;
    /* Any thread may ask; it finds what was set up before. */
    qatomic_store_release(&mis->postcopy_fault, ops);
    return true;
}

void postcopy_fault_unlatch(MigrationIncomingState *mis)
{
    qatomic_set(&mis->postcopy_fault, NULL);
}

const PostcopyFaultOps *postcopy_fault_ops(MigrationIncomingState *mis)
{
    /* Pairs with postcopy_fault_latch(). */
    return qatomic_load_acquire(&mis->postcopy_fault);
}

/* --- Capabilities --- */

void postcopy_fault_init(MigrationState *s)
{
    if (kvm_userfault_setting() == ON_OFF_AUTO_ON) {
        s->capabilities[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] = true;
    }
}

/* Only the destination has to be able to do it. */
static bool probe(const bool *old_caps, const bool *new_caps, Error **errp)
{
    const int cap = MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT;
    MigrationIncomingState *mis = migration_incoming_get_current();
    bool ram = new_caps[MIGRATION_CAPABILITY_POSTCOPY_RAM];

    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        return true;
    }
    if (!ram) {
        /* Say early what will not work later. */
        return !new_caps[cap] || old_caps[cap] || kvm_userfault_supported(errp);
    }
    /* This is reasonably expensive, so only when something changes. */
    if (old_caps[MIGRATION_CAPABILITY_POSTCOPY_RAM] &&
        old_caps[cap] == new_caps[cap]) {
        return true;
    }
    return choose(mis, new_caps, errp);
}

/* The first capability that would change, or -1. */
static int first_change(const bool *old_caps, const bool *new_caps)
{
    for (int cap = 0; cap < MIGRATION_CAPABILITY__MAX; cap++) {
        if (old_caps[cap] != new_caps[cap]) {
            return cap;
        }
    }
    return -1;
}

/*
 * From when it is announced to be over, nothing goes by capabilities, and
 * management may change them, as libvirt does: the rest of the cleanup waits
 * for the BQL, and may come later.
 */
static bool postcopy_comes_in(void)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    return migration_incoming_postcopy_advised() && postcopy_fault_ops(mis) &&
           qatomic_read(&mis->state) != MIGRATION_STATUS_COMPLETED;
}

bool postcopy_fault_caps_check(const bool *old_caps, const bool *new_caps,
                               Error **errp)
{
    ERRP_GUARD();
    int changed = first_change(old_caps, new_caps);

    if (changed >= 0 && postcopy_comes_in()) {
        error_setg(errp, "Capability '%s' can't be changed while a postcopy "
                   "migration comes in; set it before 'migrate-incoming'",
                   MigrationCapability_str(changed));
        return false;
    }
    if (new_caps[MIGRATION_CAPABILITY_POSTCOPY_KVM_USERFAULT] &&
        new_caps[MIGRATION_CAPABILITY_X_COLO]) {
        error_setg(errp, "Capability 'postcopy-kvm-userfault' is not "
                   "compatible with 'x-colo'; switch one of them off");
        return false;
    }
    if (!probe(old_caps, new_caps, errp)) {
        error_prepend(errp, "Postcopy is not supported: ");
        return false;
    }
    return true;
}

bool postcopy_fault_transport_check(const MigrationAddress *addr, Error **errp)
{
    incoming_rdma = addr->transport == MIGRATION_ADDRESS_TYPE_RDMA;
    if (!incoming_rdma || !migrate_postcopy_kvm_userfault()) {
        return true;
    }
    error_setg(errp, "Capability 'postcopy-kvm-userfault' is not compatible "
               "with RDMA, which writes to guest memory by itself; switch it "
               "off or use another transport");
    return false;
}

/* --- The way of a migration --- */

int postcopy_fault_discard_range(RAMBlock *rb, uint64_t start, size_t length)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);
    Error *err = NULL;

    if (!ops->discard_range || ops->discard_range(rb, start, length, &err)) {
        return 0;
    }
    error_report_err(err);
    return -1;
}

bool coroutine_fn postcopy_fault_before_devices(MigrationIncomingState *mis)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);
    Error *err = NULL;

    if (!ops || !ops->before_devices || ops->before_devices(mis, &err)) {
        return true;
    }
    error_report_err(err);
    return false;
}

bool postcopy_fault_waits_for_channel(MigrationIncomingState *mis)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    return ops && ops->before_devices;
}

void postcopy_fault_before_run(MigrationIncomingState *mis, QEMUBHFunc *run)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);

    if (ops && ops->before_run) {
        ops->before_run(mis, run);
    } else {
        migration_bh_schedule(run, mis);
    }
}

bool postcopy_fault_complete(MigrationIncomingState *mis)
{
    const PostcopyFaultOps *ops = postcopy_fault_ops(mis);
    Error *err = NULL;

    if (!ops || !ops->complete || ops->complete(mis, &err)) {
        return true;
    }
    error_report_err(err);
    return false;
}

/* --- Links that break --- */

bool postcopy_fault_listens(MigrationIncomingState *mis)
{
    return !mis->have_listen_thread || qemu_thread_is_self(&mis->listen_thread);
}

bool postcopy_fault_can_pause(MigrationIncomingState *mis)
{
    if (!postcopy_fault_ops(mis)) {
        return false;
    }
    switch (postcopy_state_get()) {
    case POSTCOPY_INCOMING_LISTENING:
        /* The main thread has the device state already. */
        return postcopy_fault_waits_for_channel(mis) &&
               mis->have_listen_thread && postcopy_fault_listens(mis);
    case POSTCOPY_INCOMING_RUNNING:
        return postcopy_fault_listens(mis);
    default:
        return false;
    }
}

QEMUFile *postcopy_fault_steal_stream(MigrationIncomingState *mis)
{
    QEMU_LOCK_GUARD(&mis->postcopy_link_mutex);
    return g_steal_pointer(&mis->from_src_file);
}

int postcopy_fault_break_link(MigrationIncomingState *mis)
{
    int ret = 0;

    /* First, so that whoever sends with a lock held gets an error. */
    WITH_QEMU_LOCK_GUARD(&mis->postcopy_link_mutex) {
        if (mis->from_src_file) {
            ret = qemu_file_shutdown(mis->from_src_file);
        }
    }
    WITH_QEMU_LOCK_GUARD(&mis->page_request_mutex) {
        mis->postcopy_link_broken = true;
        qemu_cond_signal(&mis->page_request_cond);
    }
    return ret;
}

void postcopy_fault_mend_link(MigrationIncomingState *mis)
{
    QEMU_LOCK_GUARD(&mis->page_request_mutex);
    mis->postcopy_link_broken = false;
}

bool postcopy_fault_drained(MigrationIncomingState *mis)
{
    if (!postcopy_fault_waits_for_channel(mis) ||
        mis->preempt_thread_status != PREEMPT_THREAD_CREATED) {
        return true;
    }
    QEMU_LOCK_GUARD(&mis->page_request_mutex);
    while (qatomic_read(&mis->page_requested_count)) {
        if (mis->postcopy_link_broken) {
            return false;
        }
        qemu_cond_wait(&mis->page_request_cond, &mis->page_request_mutex);
    }
    return true;
}

/* --- What is told of it --- */

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
    monitor_printf(mon, "vcpu faults: %" PRIu64 ", waited %" PRIu64 " us\n",
                   stats->vcpu_faults, stats->vcpu_wait);
    print_histogram(mon, "vcpu fault latency", stats->vcpu_latency);
    monitor_printf(mon, "ram waits: %" PRIu64 ", waited %" PRIu64 " us\n",
                   stats->ram_waits, stats->ram_wait);
    print_histogram(mon, "ram wait latency", stats->ram_wait_latency);
    monitor_printf(mon, "put off: %" PRIu64 "\n", stats->put_off);
    monitor_printf(mon, "eager pages: %" PRIu64 ", waited %" PRIu64 " us\n",
                   stats->eager_pages, stats->eager_wait);
    monitor_printf(mon, "spurious exits: %" PRIu64 "\n",
                   stats->spurious_exits);
    monitor_printf(mon, "duplicate pages: %" PRIu64 "\n",
                   stats->duplicate_pages);
}
