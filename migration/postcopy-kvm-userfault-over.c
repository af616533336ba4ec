/*
 * Postcopy with KVM userfault: tell devices when it is over
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "migration/postcopy-kvm-userfault.h"
#include "postcopy-ram.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "system/system.h"

/*
 * A postcopy migration that completes says so, by INBOUND_END.  One that ends
 * in precopy, or whose end comes in another way, does not: look from time to
 * time, for as long as one is going on.
 */
#define LOOK_AGAIN_MS 500

static NotifierList notifiers = NOTIFIER_LIST_INITIALIZER(notifiers);

/* A migration has been announced, and the notifiers have not been called. */
static bool pending;

static QEMUTimer *timer;

void postcopy_kvm_userfault_add_over_notifier(Notifier *notifier)
{
    notifier_list_add(&notifiers, notifier);
}

static void look_again_later(void)
{
    timer_mod(timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + LOOK_AGAIN_MS);
}

/* Main loop, BQL held: things are what they are now, not at the end. */
static void look(void *opaque)
{
    if (!pending) {
        return;
    }
    if (postcopy_kvm_userfault_active()) {
        look_again_later();
        return;
    }
    pending = false;
    timer_del(timer);
    notifier_list_notify(&notifiers, NULL);
}

/*
 * The end comes in the migration's thread, without the BQL; all that comes
 * before it, in the main thread.
 */
static int postcopy_event(NotifierWithReturn *notifier, void *data,
                          Error **errp)
{
    struct PostcopyNotifyData *pnd = data;

    switch (pnd->reason) {
    case POSTCOPY_NOTIFY_INBOUND_ADVISE:
    case POSTCOPY_NOTIFY_INBOUND_LISTEN:
        if (postcopy_kvm_userfault_active()) {
            pending = true;
            look_again_later();
        }
        break;
    case POSTCOPY_NOTIFY_INBOUND_END:
        aio_bh_schedule_oneshot(qemu_get_aio_context(), look, NULL);
        break;
    default:
        break;
    }
    return 0;
}

static NotifierWithReturn postcopy_notifier = {
    .notify = postcopy_event,
};

static void machine_done(Notifier *notifier, void *data)
{
    timer = timer_new_ms(QEMU_CLOCK_REALTIME, look, NULL);
    postcopy_add_notifier(&postcopy_notifier);
}

static Notifier machine_done_notifier = {
    .notify = machine_done,
};

/*
 * The list of notifiers has no lock, so this can't wait for a device that may
 * be plugged while a migration ends.
 */
static void register_notifier(void)
{
    qemu_add_machine_init_done_notifier(&machine_done_notifier);
}

type_init(register_notifier)
