/*
 * Tests of when devices are told that postcopy with KVM userfault is over
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "migration/postcopy-kvm-userfault.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/system.h"
#include "../../migration/postcopy-ram.h"

/* --- A migration --- */

static bool active;
static NotifierWithReturn *postcopy_notifier;

bool postcopy_kvm_userfault_active(void)
{
    return active;
}

void postcopy_add_notifier(NotifierWithReturn *nn)
{
    postcopy_notifier = nn;
}

/* The machine is done when it says so. */
void qemu_add_machine_init_done_notifier(Notifier *notify)
{
    notify->notify(notify, NULL);
}

static void event(enum PostcopyNotifyReason reason)
{
    struct PostcopyNotifyData pnd = { .reason = reason };

    postcopy_notifier->notify(postcopy_notifier, &pnd, &error_abort);
}

/* --- A device --- */

static unsigned int told;

static void tell(Notifier *notifier, void *data)
{
    g_assert_false(active);
    told++;
}

static Notifier over = { .notify = tell };

/* What the main loop does for so long. */
static unsigned int told_within(int ms)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms;

    while (qemu_clock_get_ms(QEMU_CLOCK_REALTIME) < end) {
        main_loop_wait(true);
        g_usleep(1000);
    }
    return told;
}

static void begin(void)
{
    told = 0;
    active = true;
    event(POSTCOPY_NOTIFY_INBOUND_ADVISE);
}

/* --- Tests --- */

static void test_completed(void)
{
    begin();
    event(POSTCOPY_NOTIFY_INBOUND_LISTEN);
    g_assert_cmpint(told_within(10), ==, 0);
    active = false;
    event(POSTCOPY_NOTIFY_INBOUND_END);
    /* At once, and once */
    g_assert_cmpint(told_within(50), ==, 1);
    g_assert_cmpint(told_within(1500), ==, 1);
}

static void test_without_end(void)
{
    begin();
    /* Longer than it takes to look, several times */
    g_assert_cmpint(told_within(1500), ==, 0);
    active = false;
    g_assert_cmpint(told_within(1500), ==, 1);
}

static void test_early_end(void)
{
    begin();
    event(POSTCOPY_NOTIFY_INBOUND_END);
    g_assert_cmpint(told_within(100), ==, 0);
    active = false;
    g_assert_cmpint(told_within(1500), ==, 1);
}

static void test_not_announced(void)
{
    told = 0;
    active = false;
    event(POSTCOPY_NOTIFY_INBOUND_ADVISE);
    event(POSTCOPY_NOTIFY_INBOUND_LISTEN);
    event(POSTCOPY_NOTIFY_INBOUND_END);
    g_assert_cmpint(told_within(1500), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);
    g_assert_nonnull(postcopy_notifier);
    postcopy_kvm_userfault_add_over_notifier(&over);

    g_test_add_func("/postcopy-over/completed", test_completed);
    g_test_add_func("/postcopy-over/without-end", test_without_end);
    g_test_add_func("/postcopy-over/early-end", test_early_end);
    g_test_add_func("/postcopy-over/not-announced", test_not_announced);
    return g_test_run();
}
