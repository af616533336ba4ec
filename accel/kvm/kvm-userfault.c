/*
 * KVM userfault: vCPUs leave KVM_RUN for pages that are missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "qemu/stats64.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/kvm-userfault.h"
#include "system/ram-wait.h"
#include "system/userfault-view.h"
#include "kvm-userfault.h"
#include "trace.h"

/* Exits for one page that should be there, one after the other. */
#define SPURIOUS_REPORT 1000

struct AccelCPUState {
    struct rcu_head rcu;
    /*
     * Set when the page that the vCPU waits for arrives, and by kicks: the
     * vCPU can be gone by then.
     */
    QemuEvent event;
    /* Of the last exit for a page that was there, and how many there were. */
    hwaddr spurious_gpa;
    unsigned int spurious;
};

/* New slots get views.  Protected by the slots lock. */
static bool armed;

static Stat64 spurious_exits;

uint64_t kvm_userfault_spurious(void)
{
    return stat64_get(&spurious_exits);
}

/* --- Memslots --- */

void kvm_userfault_slot_add(KVMSlot *slot)
{
    ram_addr_t offset;
    RAMBlock *rb;

    if (!armed) {
        return;
    }
    rb = qemu_ram_block_from_host(slot->ram, false, &offset);
    slot->userfault = userfault_view_new(rb, offset, slot->memory_size);
    trace_kvm_userfault_slot(slot->as_id, slot->slot, slot->start_addr,
                             slot->memory_size, !!slot->userfault);
}

void kvm_userfault_slot_del(KVMSlot *slot)
{
    if (slot->userfault) {
        userfault_view_free(slot->userfault);
        slot->userfault = NULL;
    }
}

bool kvm_userfault_slot_region(const KVMSlot *slot,
                               struct kvm_userspace_memory_region2 *mem)
{
    if (!slot->userfault) {
        return false;
    }
    mem->flags |= KVM_MEM_USERFAULT;
    mem->userfault_bitmap = (uintptr_t)slot->userfault->bitmap;
    return true;
}

/* Call @fn for all slots in use until it fails. */
static int foreach_slot(int (*fn)(KVMMemoryListener *kml, KVMSlot *slot))
{
    KVMState *s = kvm_state;

    QEMU_LOCK_GUARD(&kml_slots_lock);
    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (int j = 0; kml && j < kml->nr_slots_allocated; j++) {
            int ret = kml->slots[j].memory_size ? fn(kml, &kml->slots[j]) : 0;

            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

static int slot_arm(KVMMemoryListener *kml, KVMSlot *slot)
{
    armed = true;
    kvm_userfault_slot_add(slot);
    return slot->userfault ? kvm_set_user_memory_region(kml, slot, false) : 0;
}

static int slot_disarm(KVMMemoryListener *kml, KVMSlot *slot)
{
    UserfaultView *view = slot->userfault;
    int ret;

    armed = false;
    if (!view) {
        return 0;
    }
    slot->userfault = NULL;
    ret = kvm_set_user_memory_region(kml, slot, false);
    if (ret < 0) {
        /*
         * KVM still reads the bitmap, whose bits are all clear: let it, the
         * guest is only slower.
         */
        slot->userfault = view;
        return 0;
    }
    /* KVM does not use the bitmap any more when the ioctl returns. */
    userfault_view_free(view);
    return 0;
}

bool kvm_userfault_arm(Error **errp)
{
    int ret;

    stat64_init(&spurious_exits, 0);
    ret = foreach_slot(slot_arm);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM refused a userfault bitmap");
        return false;
    }
    return true;
}

void kvm_userfault_disarm(void)
{
    foreach_slot(slot_disarm);
}

/* --- vCPUs --- */

void kvm_userfault_init_vcpu(CPUState *cpu)
{
    AccelCPUState *accel = g_new0(AccelCPUState, 1);

    qemu_event_init(&accel->event, false);
    /* Pairs with kvm_userfault_kick_vcpu(), which may come at any time. */
    qatomic_store_release(&cpu->accel, accel);
}

static void accel_reclaim(AccelCPUState *accel)
{
    qemu_event_destroy(&accel->event);
    g_free(accel);
}

void kvm_userfault_destroy_vcpu(CPUState *cpu)
{
    AccelCPUState *accel = cpu->accel;

    qatomic_set(&cpu->accel, NULL);
    call_rcu(accel, accel_reclaim, rcu);
}

void kvm_userfault_kick_vcpu(CPUState *cpu)
{
    AccelCPUState *accel;

    RCU_READ_LOCK_GUARD();
    accel = qatomic_load_acquire(&cpu->accel);
    cpus_kick_thread(cpu);
    /*
     * thread_kicked is set, and cleared by the vCPU when it has seen to what
     * it was kicked for; pairs with the reset in wait_for_page().
     */
    if (accel) {
        qemu_event_set(&accel->event);
    }
}

AddressSpace *kvm_userfault_smm_as(CPUState *cpu, MemTxAttrs attrs)
{
    AddressSpace *as = NULL;

    /* With smm=off a guest can get into SMM all the same, by an SMI IPI. */
    if (cpu->num_ases > 1) {
        as = cpu_get_address_space(cpu, cpu_asidx_from_attrs(cpu, attrs));
    }
    return as ?: &address_space_memory;
}

/*
 * The page of RAM at @gpa.  Called in an RCU critical section.  The flat
 * view and KVM's slots can differ while slots are changed; then there is no
 * RAM, or another page, and the vCPU sees when it comes back.
 */
static bool page_at(AddressSpace *as, MemTxAttrs attrs, hwaddr gpa,
                    RAMBlock **rb, ram_addr_t *offset)
{
    hwaddr xlat, len = 1;
    MemoryRegion *mr = address_space_translate(as, gpa, &xlat, &len, false,
                                               attrs);

    if (!mr->ram_block) {
        return false;
    }
    *rb = mr->ram_block;
    *offset = ROUND_DOWN(xlat, qemu_target_page_size());
    return true;
}

/* Leaves the wait, so that what it was kicked for is seen to. */
static bool vcpu_kicked(CPUState *cpu)
{
    return qatomic_read(&cpu->thread_kicked) ||
           qatomic_read(&cpu->exit_request);
}

/* Returns false if the vCPU was kicked. */
static bool wait_for_page(CPUState *cpu, RAMWaiter *w)
{
    QemuEvent *event = &cpu->accel->event;

    for (;;) {
        qemu_event_reset(event);
        if (qatomic_read(&w->present) || vcpu_kicked(cpu)) {
            break;
        }
        qemu_event_wait(event);
    }
    return ram_wait_del(w);
}

/*
 * A vCPU that left for a page which is there: another one waited for it, or it
 * arrived in between.  It must not happen forever.
 */
static void spurious_exit(CPUState *cpu, hwaddr gpa, RAMBlock *rb,
                          ram_addr_t offset)
{
    AccelCPUState *accel = cpu->accel;

    stat64_add(&spurious_exits, 1);
    trace_kvm_userfault_spurious(cpu->cpu_index, gpa);
    if (gpa != accel->spurious_gpa) {
        accel->spurious_gpa = gpa;
        accel->spurious = 0;
    }
    if (++accel->spurious == SPURIOUS_REPORT) {
        error_report("vCPU %d keeps exiting for the page at guest physical "
                     "address 0x%" HWADDR_PRIx ", which was received",
                     cpu->cpu_index, gpa);
    }
    if (rb) {
        userfault_views_clear(rb, offset, qemu_target_page_size());
    }
}

int kvm_userfault_handle_exit(CPUState *cpu, MemTxAttrs attrs, hwaddr gpa)
{
    RAMWaiter w = {
        .tid = cpu->thread_id,
        .event = &cpu->accel->event,
        .sends = true,
    };

    WITH_RCU_READ_LOCK_GUARD() {
        if (!page_at(kvm_userfault_vcpu_as(cpu, attrs), attrs, gpa,
                     &w.rb, &w.offset) ||
            !ram_wait_add(&w)) {
            spurious_exit(cpu, gpa, w.rb, w.offset);
            return 0;
        }
    }

    /* Outside of RCU: it may take as long as the network is down. */
    if (!wait_for_page(cpu, &w)) {
        trace_kvm_userfault_kicked(cpu->cpu_index, gpa);
        return EXCP_INTERRUPT;
    }
    ram_wait_count_vcpu(&w);
    trace_kvm_userfault_resume(cpu->cpu_index, gpa);
    return 0;
}

/* --- Pages that KVM touches when it is given vCPU state --- */

typedef struct StatePages {
    AddressSpace *as;
    void (*fn)(RAMBlock *rb, ram_addr_t offset, void *opaque);
    void *opaque;
} StatePages;

static void state_range(hwaddr gpa, hwaddr length, void *opaque)
{
    hwaddr page = qemu_real_host_page_size();
    StatePages *pages = opaque;
    ram_addr_t offset;
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    for (hwaddr p = ROUND_DOWN(gpa, page); p < gpa + length; p += page) {
        if (page_at(pages->as, MEMTXATTRS_UNSPECIFIED, p, &rb, &offset)) {
            pages->fn(rb, offset, pages->opaque);
        }
    }
}

bool kvm_userfault_state_pages(void (*fn)(RAMBlock *rb, ram_addr_t offset,
                                          void *opaque),
                               void *opaque, Error **errp)
{
    StatePages pages = {
        .as = &address_space_memory,
        .fn = fn,
        .opaque = opaque,
    };
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (!kvm_arch_userfault_state_pages(cpu, state_range, &pages, errp)) {
            return false;
        }
    }
    return true;
}
