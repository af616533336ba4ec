/*
 * Postcopy without userfaultfd: KVM and the RAM wait catch accesses
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/coroutine.h"
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration/postcopy-kvm-userfault.h"
#include "monitor/qmp-unattended.h"
#include "system/hostmem.h"
#include "system/kvm-userfault.h"
#include "system/ram-wait.h"
#include "system/runstate.h"
#include "system/shutdown-unattended.h"
#include "system/userfault-view.h"
#include "migration.h"
#include "options.h"
#include "postcopy-claim.h"
#include "postcopy-fault.h"
#include "postcopy-gate.h"
#include "postcopy-oracle.h"
#include "postcopy-ram.h"
#include "postcopy-request.h"
#include "ram.h"
#include "trace.h"

/* kvmvapic reads guest RAM when it is loaded, mostly below this. */
#define LOW_MEMORY (1 * MiB)

static struct {
    /* Set when all memory has arrived.  Read by any thread. */
    bool complete;
    /* Called when all memory has arrived; NULL unless the VM waits for it. */
    QEMUBHFunc *run_when_complete;
    /* Gate 2, until it is open. */
    PostcopyGate *gate;
    QEMUBHFunc *run;
    /* What the VM still waits for: gate 2, and that the source gives it up. */
    unsigned int run_waits;

    Stat64 duplicates;
    uint64_t eager_pages;
    int64_t eager_ns;
} kuf;

/* --- What the rest of QEMU asks --- */

bool postcopy_kvm_userfault_active(void)
{
    /* The state first: at start-up there is no migration object yet. */
    switch (postcopy_state_get()) {
    case POSTCOPY_INCOMING_ADVISE:
    case POSTCOPY_INCOMING_DISCARD:
    case POSTCOPY_INCOMING_LISTENING:
    case POSTCOPY_INCOMING_RUNNING:
        return postcopy_fault_ops(migration_incoming_get_current()) ==
               &postcopy_kvm_userfault_ops &&
               !qatomic_load_acquire(&kuf.complete);
    default:
        return false;
    }
}

bool postcopy_kvm_userfault_allows(const char *what, Error **errp)
{
    if (!postcopy_kvm_userfault_active()) {
        return true;
    }
    error_setg(errp, "%s is not possible while a postcopy migration comes in "
               "with postcopy-kvm-userfault, since guest memory is still "
               "missing; wait until the migration has completed", what);
    return false;
}

/* --- Before the guest's first page is missing --- */

static bool blocks_supported(Error **errp)
{
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH(rb) {
        if (rb->used_length % rb->page_size) {
            error_setg(errp, "RAM block '%s' has 0x" RAM_ADDR_FMT " bytes, "
                       "which is not a multiple of its page size of 0x%zx; "
                       "give it another size", rb->idstr, rb->used_length,
                       rb->page_size);
            return false;
        }
    }
    return true;
}

static bool kuf_supported_by_host(MigrationIncomingState *mis, Error **errp)
{
    if (qemu_target_page_size() != qemu_real_host_page_size()) {
        error_setg(errp, "postcopy-kvm-userfault needs a guest with the page "
                   "size of the host; switch it off");
        return false;
    }
    return kvm_userfault_supported(errp) &&
           postcopy_kvm_userfault_vm_supported(errp) &&
           blocks_supported(errp) &&
           !postcopy_notify(POSTCOPY_NOTIFY_PROBE, errp);
}

static int init_claims(RAMBlock *rb, void *opaque)
{
    postcopy_claims_init(rb);
    return 0;
}

static int free_claims(RAMBlock *rb, void *opaque)
{
    postcopy_claims_free(rb);
    return 0;
}

static bool kuf_setup(MigrationIncomingState *mis, Error **errp)
{
    mis->userfault_fd = -1;
    /*
     * Nobody may pin memory from here on; see
     * postcopy_kvm_userfault_vm_supported()
     */
    if (ram_block_discard_require(true)) {
        error_setg(errp, "a device or block driver has pinned guest memory "
                   "since postcopy-kvm-userfault was set; remove it or switch "
                   "postcopy-kvm-userfault off");
        return false;
    }
    foreach_not_ignored_block(init_claims, NULL);
    kuf.complete = false;
    kuf.run_when_complete = NULL;
    kuf.run_waits = 2;
    kuf.eager_pages = 0;
    kuf.eager_ns = 0;
    stat64_init(&kuf.duplicates, 0);
    postcopy_gate_reset_count();
    postcopy_blocktime_init(mis);
    return true;
}

/* --- Faults --- */

static void kuf_notify(void *opaque)
{
    postcopy_fault_thread_notify(opaque);
}

/* Waits for requests; returns false when the thread has to quit. */
static bool kuf_wait_requests(MigrationIncomingState *mis)
{
    uint64_t count;

    if (RETRY_ON_EINTR(read(mis->userfault_event_fd, &count, 8)) != 8) {
        error_report("%s: read() failed: %s", __func__, strerror(errno));
        return false;
    }
    return !qatomic_read(&mis->fault_thread_quit);
}

/* Requests that were sent, or will be when the migration is recovered. */
static bool kuf_requested(MigrationIncomingState *mis, void *host)
{
    QEMU_LOCK_GUARD(&mis->page_request_mutex);
    return g_tree_lookup(mis->page_requested, host);
}

static void kuf_request(MigrationIncomingState *mis,
                        const RAMWaitRequest *req)
{
    void *host = req->rb->host + req->offset;

    trace_postcopy_ram_fault_thread_request((uintptr_t)host, req->rb->idstr,
                                            req->offset, req->tid);
    mark_postcopy_blocktime_begin((uintptr_t)host, req->tid, req->rb);
    if (kuf_requested(mis, host)) {
        return;
    }
    while (postcopy_request_page(mis, req->rb, req->offset,
                                 (uintptr_t)host)) {
        /* May be network failure, try to wait for recovery */
        postcopy_pause_fault_thread(mis);
    }
}

/*
 * The return path is not broken, or is rebuilt and the source expects requests:
 * while both sides talk about what is missing, it does not.
 */
static bool kuf_can_send(MigrationIncomingState *mis)
{
    return mis->to_src_file &&
           qatomic_read(&mis->state) == MIGRATION_STATUS_POSTCOPY_ACTIVE;
}

static void *kuf_fault_thread(void *opaque)
{
    MigrationIncomingState *mis = opaque;
    RAMWaitRequest req;

    trace_postcopy_ram_fault_thread_entry();
    rcu_register_thread();
    ram_wait_resolver(true);
    mis->last_rb = NULL; /* last RAMBlock we sent part of */
    qemu_sem_post(&mis->thread_sync_sem);

    while (kuf_wait_requests(mis)) {
        if (!kuf_can_send(mis)) {
            postcopy_pause_fault_thread(mis);
        }
        while (ram_wait_next_request(&req)) {
            kuf_request(mis, &req);
        }
    }

    trace_postcopy_ram_fault_thread_quit();
    rcu_unregister_thread();
    trace_postcopy_ram_fault_thread_exit();
    return NULL;
}

/*
 * In the thread of a vCPU that waits.  What QEMU does not fetch from the source
 * is the fault thread's, as is all that would wait.
 */
static bool kuf_send(const RAMWaiter *w, void *opaque)
{
    uintptr_t host = (uintptr_t)w->rb->host + w->offset;

    if (memory_region_has_ram_discard_manager(w->rb->mr)) {
        return false;
    }
    /* First: the page ends it, and may come before the request has returned. */
    mark_postcopy_blocktime_begin(host, w->tid, w->rb);
    return postcopy_request_now(opaque, w->rb, w->offset);
}

static int set_zeroable(RAMBlock *rb, void *opaque)
{
    /* kuf_place() writes zeros without a page of them. */
    qemu_ram_set_uf_zeroable(rb);
    return 0;
}

static bool kuf_arm(MigrationIncomingState *mis, Error **errp)
{
    const RAMWaitResolver resolver = {
        .notify = kuf_notify,
        .send = kuf_send,
        .opaque = mis,
    };

    foreach_not_ignored_block(set_zeroable, NULL);
    postcopy_request_open(mis);
    ram_wait_enable(&resolver);
    qmp_unattended_start();
    shutdown_unattended_start();
    return true;
}

/* --- The gates --- */

/*
 * Main memory, which QEMU touches only through the memory API.  All other
 * blocks belong to devices, which have pointers into them.
 */
static bool block_is_lazy(RAMBlock *rb)
{
    return object_dynamic_cast(memory_region_owner(rb->mr),
                               TYPE_MEMORY_BACKEND);
}

static int add_eager_block(RAMBlock *rb, void *opaque)
{
    if (!block_is_lazy(rb)) {
        postcopy_gate_add_range(opaque, rb, 0, rb->postcopy_length);
    }
    return 0;
}

static void add_low_memory(PostcopyGate *gate)
{
    MemoryRegionSection low = memory_region_find(get_system_memory(), 0, 1);

    if (!low.mr) {
        return;
    }
    if (low.mr->ram_block) {
        RAMBlock *rb = low.mr->ram_block;

        postcopy_gate_add_range(gate, rb, 0,
                                MIN(LOW_MEMORY, rb->postcopy_length));
    }
    memory_region_unref(low.mr);
}

/*
 * The main loop accepts it, and it brings what is asked for: it must be there
 * before the main thread waits for a page.  If the link breaks before, it comes
 * when the migration is recovered.
 */
static void coroutine_fn wait_for_preempt_channel(MigrationIncomingState *mis)
{
    while (migrate_postcopy_preempt() && !mis->postcopy_qemufile_dst) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
    }
}

/*
 * What the monitors' dispatcher has taken before the RAM wait was on is answered
 * while the main thread does not wait yet.
 */
static void coroutine_fn wait_for_monitors(void)
{
    while (!qmp_unattended_settled()) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
    }
}

static bool coroutine_fn kuf_before_devices(MigrationIncomingState *mis,
                                            Error **errp)
{
    int64_t start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    PostcopyGate *gate = postcopy_gate_new();

    assert(qemu_in_coroutine());
    wait_for_monitors();
    wait_for_preempt_channel(mis);
    foreach_not_ignored_block(add_eager_block, gate);
    add_low_memory(gate);
    kuf.eager_pages = postcopy_gate_pages(gate);
    trace_postcopy_kvm_userfault_gate(1, kuf.eager_pages);
    postcopy_gate_wait(gate);
    postcopy_gate_free(gate);
    kuf.eager_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - start;
    trace_postcopy_kvm_userfault_gate_open(1, kuf.eager_ns / 1000);

    if (migrate_postcopy_kvm_userfault_oracle() && !postcopy_oracle_arm(errp)) {
        return false;
    }
    /* Slots without a missing page stay as they are; so, not earlier. */
    return kvm_userfault_arm(errp);
}

static void run_gate_open(void *opaque)
{
    trace_postcopy_kvm_userfault_gate_open(2, 0);
    g_clear_pointer(&kuf.gate, postcopy_gate_free);
    kuf.run(opaque);
}

/* The last one that the VM waits for lets it run.  Any thread. */
static void schedule_run(void *opaque)
{
    if (!qatomic_dec_fetch(&kuf.run_waits)) {
        migration_bh_schedule(run_gate_open, opaque);
    }
}

static void kuf_committed(MigrationIncomingState *mis)
{
    schedule_run(mis);
}

static void add_state_page(RAMBlock *rb, ram_addr_t offset, void *opaque)
{
    postcopy_gate_add(opaque, rb, offset);
}

static void kuf_before_run(MigrationIncomingState *mis, QEMUBHFunc *run)
{
    PostcopyGate *gate = postcopy_gate_new();
    Error *why = NULL;

    if (!kvm_userfault_state_pages(add_state_page, gate, &why)) {
        warn_report("%s: postcopy-kvm-userfault starts the VM when all of its "
                    "memory has arrived", error_get_pretty(why));
        error_free(why);
        postcopy_gate_free(gate);
        kuf.run_when_complete = run;
        return;
    }
    kuf.gate = gate;
    kuf.run = run;
    trace_postcopy_kvm_userfault_gate(2, postcopy_gate_pages(gate));
    if (!postcopy_gate_close(gate, schedule_run, mis)) {
        schedule_run(mis);
    }
}

/* --- Pages --- */

static int write_page(RAMBlock *rb, ram_addr_t offset, const void *from,
                      size_t length)
{
    void *host = rb->host + offset;

    if (unlikely(migrate_postcopy_kvm_userfault_oracle())) {
        return postcopy_oracle_write(rb, offset, from);
    }
    if (from) {
        memcpy(host, from, length);
    } else if (!buffer_is_zero(host, length)) {
        /* What is zero already may be no memory at all yet. */
        memset(host, 0, length);
    }
    return 0;
}

static bool kuf_place(MigrationIncomingState *mis, void *host, void *from,
                      uint64_t pagesize, RAMBlock *rb, Error **errp)
{
    ram_addr_t offset = qemu_ram_block_host_offset(rb, host);
    int ret;

    assert(pagesize == qemu_target_page_size());
    if (!postcopy_claim(rb, offset)) {
        /* The guest may have written to it since. */
        stat64_add(&kuf.duplicates, 1);
        trace_postcopy_kvm_userfault_duplicate(rb->idstr, offset);
        return true;
    }
    ret = write_page(rb, offset, from, pagesize);
    if (ret) {
        postcopy_claim_drop(rb, offset);
        error_setg_errno(errp, -ret, "A page of RAM block '%s' can't be "
                         "written", rb->idstr);
        return false;
    }
    /*
     * Contents first: whoever sees the bit (ram_wait_page_missing(), an
     * acquire) sees them.
     */
    smp_wmb();
    ramblock_recv_bitmap_set_offset(rb, offset);
    postcopy_claim_done(rb, offset);
    userfault_views_clear(rb, offset, pagesize);
    ram_wait_page_present(rb, offset);
    return true;
}

/* --- The end --- */

static int find_missing(RAMBlock *rb, void *opaque)
{
    unsigned long npages = rb->postcopy_length >> qemu_target_page_bits();
    unsigned long page = find_first_zero_bit(rb->receivedmap, npages);
    Error **errp = opaque;

    if (page >= npages) {
        return 0;
    }
    error_setg(errp, "The migration stream has ended, but page 0x%lx of RAM "
               "block '%s' and %lu others of it have not arrived; the VM can't "
               "go on and memory that is missing is lost", page, rb->idstr,
               npages - (unsigned long)bitmap_count_one(rb->receivedmap,
                                                        npages) - 1);
    return 1;
}

static bool kuf_complete(MigrationIncomingState *mis, Error **errp)
{
    if (!qatomic_read(&ram_wait_active)) {
        return true;
    }
    if (foreach_not_ignored_block(find_missing, errp)) {
        return false;
    }
    /* Pairs with postcopy_kvm_userfault_active(). */
    qatomic_store_release(&kuf.complete, true);
    if (kuf.run_when_complete) {
        migration_bh_schedule(kuf.run_when_complete, mis);
    }
    return true;
}

static bool kuf_cleanup(MigrationIncomingState *mis, Error **errp)
{
    if (!qatomic_read(&ram_wait_active)) {
        return true;
    }
    kvm_userfault_disarm();
    ram_wait_disable();
    postcopy_request_close(mis);
    /* No page comes: the preempt thread is gone, and this is the other one. */
    foreach_not_ignored_block(free_claims, NULL);
    shutdown_unattended_stop();
    ram_block_discard_require(false);
    return true;
}

static uint64List *histogram(const uint64_t *buckets)
{
    uint64List *list = NULL;

    for (int i = RAM_WAIT_LATENCY_BUCKETS - 1; i >= 0; i--) {
        QAPI_LIST_PREPEND(list, buckets[i]);
    }
    return list;
}

static void kuf_fill_info(PostcopyFaultInfo *info)
{
    KvmUserfaultStats *stats = g_new0(KvmUserfaultStats, 1);
    RAMWaitStats waits;

    ram_wait_stats(&waits);
    stats->vcpu_faults = waits.vcpu_waits;
    stats->vcpu_wait = waits.vcpu_ns / 1000;
    stats->vcpu_latency = histogram(waits.vcpu_latency);
    stats->ram_waits = waits.waits;
    stats->ram_wait = waits.ns / 1000;
    stats->ram_wait_latency = histogram(waits.latency);
    stats->put_off = postcopy_gate_put_off();
    stats->eager_pages = kuf.eager_pages;
    stats->eager_wait = kuf.eager_ns / 1000;
    stats->spurious_exits = kvm_userfault_spurious();
    stats->duplicate_pages = stat64_get(&kuf.duplicates);
    info->kvm_userfault = stats;
}

const PostcopyFaultOps postcopy_kvm_userfault_ops = {
    .backend = POSTCOPY_FAULT_BACKEND_KVM_USERFAULT,
    .pieces = true,
    .supported_by_host = kuf_supported_by_host,
    /*
     * Nobody looks at a page whose bit is clear, so its memory need not be
     * given back, and can stay a part of a huge page: nothing to discard.
     */
    .setup = kuf_setup,
    .fault_thread = kuf_fault_thread,
    .arm = kuf_arm,
    .before_devices = kuf_before_devices,
    .before_run = kuf_before_run,
    .committed = kuf_committed,
    .place = kuf_place,
    .complete = kuf_complete,
    .cleanup = kuf_cleanup,
    .fill_info = kuf_fill_info,
};
