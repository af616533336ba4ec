/*
 * Tests of who gets at guest memory past the RAM wait
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/qdev-core.h"
#include "migration/postcopy-kvm-userfault.h"
#include "qapi/error.h"
#include "qom/object.h"
#include "qom/object-size.h"
#include "system/ram-bypass.h"

/* --- A migration, devices, and what is a part of them --- */

static bool active;

bool postcopy_kvm_userfault_active(void)
{
    return active;
}

#define TYPE_PLAIN "test-plain"
#define TYPE_POINTER "test-pointer"
#define TYPE_POINTER_CHILD "test-pointer-child"

typedef struct Plain {
    Object parent_obj;

    RAMBypass bypass;
    int part;
} Plain;

static void pointer_class_init(ObjectClass *klass, void *data)
{
    ram_bypass_set_class(klass, RAM_BYPASS_POINTER);
}

static const TypeInfo types[] = {
    {
        .name = TYPE_PLAIN,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(Plain),
    }, {
        .name = TYPE_POINTER,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(Object),
        .class_init = pointer_class_init,
    }, {
        .name = TYPE_POINTER_CHILD,
        .parent = TYPE_POINTER,
    },
};

static Object *plug(const char *type, const char *id)
{
    Object *obj = object_new(type);

    object_property_add_child(object_get_root(), id, obj);
    object_unref(obj);
    return obj;
}

static Plain *plug_plain(const char *id)
{
    return (Plain *)plug(TYPE_PLAIN, id);
}

static void unplug(void *obj)
{
    object_unparent(obj);
}

/* The error is one sentence that has all of these in it. */
static void check_error(Error *err, const char *who, const char *why,
                        const char *advice)
{
    const char *text;

    g_assert_nonnull(err);
    text = error_get_pretty(err);
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, who));
    g_assert_nonnull(strstr(text, why));
    g_assert_nonnull(strstr(text, advice));
    error_free(err);
}

static void check_begins(void)
{
    g_assert_true(ram_bypass_none(&error_abort));
}

static void check_does_not_begin(const char *who, const char *why,
                                 const char *advice)
{
    Error *err = NULL;

    g_assert_false(ram_bypass_none(&err));
    check_error(err, who, why, advice);
}

/* --- Before postcopy begins --- */

static void test_registered(void)
{
    Plain *a = plug_plain("a"), *b = plug_plain("b");

    check_begins();
    a->bypass.why = RAM_BYPASS_KERNEL;
    g_assert_true(ram_bypass_register(&a->bypass, &error_abort));
    check_does_not_begin("'a' (test-plain)", RAM_BYPASS_KERNEL, "remove it");

    g_assert_true(ram_bypass_register(&b->bypass, &error_abort));
    ram_bypass_unregister(&a->bypass);
    check_does_not_begin("'b' (test-plain)", RAM_BYPASS_UNGUARDED, "remove it");

    ram_bypass_unregister(&b->bypass);
    ram_bypass_unregister(&b->bypass);
    check_begins();
    unplug(a);
    unplug(b);
}

static void test_names(void)
{
    RAMBypass bypass = {};
    Plain *a = plug_plain("a"), *b = plug_plain("b");

    ram_bypass_register(&bypass, &error_abort);
    check_does_not_begin("something without a name", RAM_BYPASS_UNGUARDED,
                         "remove it");
    bypass.part = &b->part;
    check_does_not_begin("'b' (test-plain)", RAM_BYPASS_UNGUARDED, "remove it");
    bypass.words = "Xen";
    check_does_not_begin("with Xen:", RAM_BYPASS_UNGUARDED, "remove it");
    bypass.netdev = "n";
    bypass.netdev_type = NET_CLIENT_DRIVER_TAP;
    bypass.advice = "use vhost=on instead";
    check_does_not_begin("network backend 'n' (tap)", RAM_BYPASS_UNGUARDED,
                         "use vhost=on instead");
    ram_bypass_unregister(&bypass);
    unplug(a);
    unplug(b);
}

static void test_postponable(void)
{
    RAMBypass bypass = { .postponable = true }, other = {};

    ram_bypass_register(&other, &error_abort);
    ram_bypass_register(&bypass, &error_abort);
    check_does_not_begin("something", RAM_BYPASS_UNGUARDED, "remove it");
    ram_bypass_unregister(&other);
    check_begins();
    ram_bypass_unregister(&bypass);
}

static void test_class(void)
{
    Object *obj = plug(TYPE_POINTER, "p");

    check_does_not_begin("'p' (test-pointer)", RAM_BYPASS_POINTER, "remove it");
    unplug(obj);
    check_begins();

    obj = plug(TYPE_POINTER_CHILD, "c");
    check_does_not_begin("'c' (test-pointer-child)", RAM_BYPASS_POINTER,
                         "remove it");
    unplug(obj);
    check_begins();
}

/* --- While it goes on --- */

static void test_closed(void)
{
    Plain *a = plug_plain("a");
    Error *err = NULL;

    active = true;
    g_assert_false(ram_bypass_may_register(&a->bypass, &err));
    check_error(err, "'a' (test-plain)", RAM_BYPASS_UNGUARDED,
                "when the migration has completed");
    err = NULL;
    g_assert_false(ram_bypass_register(&a->bypass, &err));
    error_free(err);
    err = NULL;
    /* It was refused, so there is nothing to undo */
    ram_bypass_unregister(&a->bypass);

    g_assert_true(ram_bypass_may_plug(&error_abort));
    plug(TYPE_POINTER, "p");
    g_assert_false(ram_bypass_may_plug(&err));
    check_error(err, "'p' (test-pointer)", RAM_BYPASS_POINTER,
                "when the migration has completed");

    active = false;
    g_assert_true(ram_bypass_may_plug(&error_abort));
    g_assert_true(ram_bypass_register(&a->bypass, &error_abort));
    ram_bypass_unregister(&a->bypass);
    unplug(a);
    unplug(object_resolve_path("/p", NULL));
}

/* Who is postponed may come, but not start. */
static void test_last_gate(void)
{
    RAMBypass bypass = { .postponable = true, .words = "vhost" };
    Error *err = NULL;

    active = true;
    g_assert_true(ram_bypass_register(&bypass, &error_abort));
    g_assert_false(ram_bypass_may_start(&bypass, &err));
    check_error(err, "with vhost", RAM_BYPASS_UNGUARDED, "not started");
    active = false;
    g_assert_true(ram_bypass_may_start(&bypass, &error_abort));
    ram_bypass_unregister(&bypass);
}

/* --- Memory listeners, whose owners may have forgotten to register --- */

static void test_listener(MemoryListener *listener)
{
}

static void region_add(MemoryListener *listener, MemoryRegionSection *section)
{
}

static void test_listeners(void)
{
    MemoryListener vhost = { .name = "vhost", .region_add = region_add };
    MemoryListener commit = { .name = "any", .commit = test_listener };
    MemoryListener add = { .name = "new", .region_add = region_add };
    MemoryListener nop = { .region_nop = region_add };

    g_assert_true(ram_bypass_may_listen(&vhost));
    g_assert_true(ram_bypass_may_listen(&commit));
    check_begins();

    g_assert_true(ram_bypass_may_listen(&add));
    check_does_not_begin("listener 'new'", "nobody knows", "remove it");
    g_assert_true(ram_bypass_may_listen(&nop));
    ram_bypass_listener_gone(&add);
    check_does_not_begin("'without a name'", "nobody knows", "remove it");
    ram_bypass_listener_gone(&nop);
    ram_bypass_listener_gone(&nop);
    check_begins();

    active = true;
    g_assert_false(ram_bypass_may_listen(&add));
    g_assert_true(ram_bypass_may_listen(&commit));
    active = false;
    /* It was refused, so nothing is left of it */
    check_begins();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    module_call_init(MODULE_INIT_QOM);
    for (int i = 0; i < ARRAY_SIZE(types); i++) {
        type_register_static(&types[i]);
    }

    g_test_add_func("/ram-bypass/registered", test_registered);
    g_test_add_func("/ram-bypass/names", test_names);
    g_test_add_func("/ram-bypass/postponable", test_postponable);
    g_test_add_func("/ram-bypass/class", test_class);
    g_test_add_func("/ram-bypass/listeners", test_listeners);
    g_test_add_func("/ram-bypass/closed", test_closed);
    g_test_add_func("/ram-bypass/last-gate", test_last_gate);
    return g_test_run();
}
