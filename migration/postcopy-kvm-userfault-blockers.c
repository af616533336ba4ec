/*
 * Postcopy with KVM userfault: what in a VM it does not work with
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "hw/qdev-core.h"
#include "migration/postcopy-kvm-userfault.h"
#include "qom/object.h"
#include "system/confidential-guest-support.h"
#include "system/ram-bypass.h"
#include "migration.h"
#include "options.h"

/*
 * Whoever gets at guest memory past the RAM wait says so by itself, see
 * system/ram-bypass.h.  Here is what is a matter of the memory or of the whole
 * VM, whoever uses it.
 */

#define ADVICE_PLUG "add it when the migration has completed"

static const char *ram_block_refused(RAMBlock *rb)
{
    /* Of an enclave, or of a confidential guest */
    if (rb->guest_memfd >= 0 || (rb->flags & RAM_PROTECTED)) {
        return RAM_BYPASS_PRIVATE;
    }
    return rb->flags & RAM_PMEM ? RAM_BYPASS_PERSISTENT : NULL;
}

static bool ram_blocks_supported(const char *advice, Error **errp)
{
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH(rb) {
        const char *why = ram_block_refused(rb);
        g_autofree char *what = NULL;

        if (why) {
            what = g_strdup_printf("RAM block '%s'", rb->idstr);
            ram_bypass_refuse(errp, what, why, advice);
            return false;
        }
    }
    return true;
}

static bool guest_supported(Error **errp)
{
    ConfidentialGuestSupport *cgs = current_machine ? current_machine->cgs :
                                                      NULL;
    g_autofree char *what = NULL;

    if (!cgs) {
        return true;
    }
    what = g_strdup_printf("object '%s' (%s)",
                           object_get_canonical_path_component(OBJECT(cgs)),
                           object_get_typename(OBJECT(cgs)));
    ram_bypass_refuse(errp, what, "guest memory is private", NULL);
    return false;
}

static bool transport_supported(Error **errp)
{
    if (!migrate_rdma()) {
        return true;
    }
    ram_bypass_refuse(errp, "RDMA", "it writes to guest memory by itself",
                      "use another transport or switch "
                      "postcopy-kvm-userfault off");
    return false;
}

/* The net below: they have registered as well, and have been named then. */
static bool nobody_pins(Error **errp)
{
    if (!ram_block_discard_is_disabled()) {
        return true;
    }
    ram_bypass_refuse(errp, "a device or block driver that pins guest memory",
                      RAM_BYPASS_HARDWARE, NULL);
    return false;
}

bool postcopy_kvm_userfault_vm_supported(Error **errp)
{
    return ram_bypass_none(errp) && guest_supported(errp) &&
           ram_blocks_supported(NULL, errp) && transport_supported(errp) &&
           nobody_pins(errp);
}

bool postcopy_kvm_userfault_may_plug(Error **errp)
{
    /* All was well before, so it is the new device or what it uses */
    return !postcopy_kvm_userfault_active() ||
           (ram_bypass_may_plug(errp) &&
            ram_blocks_supported(ADVICE_PLUG, errp));
}

bool postcopy_kvm_userfault_may_unplug(DeviceState *dev, Error **errp)
{
    g_autofree char *what = NULL;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_MEMORY_DEVICE)) {
        return true;
    }
    what = g_strdup_printf("Removal of memory device '%s'", dev->id ?: "");
    return postcopy_kvm_userfault_allows(what, errp);
}
