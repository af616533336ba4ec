/*
 * Who gets at guest memory past the RAM wait
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
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qom/object.h"
#include "qom/object-size.h"
#include "system/ram-bypass.h"

#define ADVICE_VM   "remove it or switch postcopy-kvm-userfault off"
#define ADVICE_PLUG "add it when the migration has completed"

/*
 * Protected by the BQL.  So is the beginning of a migration: either that finds
 * who was registered before, or who comes later finds that.
 */
static QLIST_HEAD(, RAMBypass) bypasses = QLIST_HEAD_INITIALIZER(bypasses);

void ram_bypass_refuse(Error **errp, const char *what, const char *why,
                       const char *advice)
{
    error_setg(errp, "postcopy-kvm-userfault does not work with %s: %s; %s",
               what, why ?: RAM_BYPASS_UNGUARDED, advice ?: ADVICE_VM);
}

/* --- Names --- */

typedef struct ObjectAt {
    uintptr_t addr;
    Object *found;
    size_t size;
} ObjectAt;

static int object_has(Object *obj, void *opaque)
{
    size_t size = object_get_size(obj);
    uintptr_t start = (uintptr_t)obj;
    ObjectAt *at = opaque;

    if (at->addr >= start && at->addr - start < size && size < at->size) {
        at->found = obj;
        at->size = size;
    }
    return 0;
}

/*
 * The object in whose memory @part lies, or NULL.  An object may lie in another
 * one; the innermost counts.
 */
static Object *object_at(const void *part)
{
    ObjectAt at = { .addr = (uintptr_t)part, .size = SIZE_MAX };

    if (part) {
        object_child_foreach_recursive(object_get_root(), object_has, &at);
    }
    return at.found;
}

/* The device that the user has created, if @obj is a part of one. */
static Object *object_user_sees(Object *obj)
{
    while (obj->parent && object_dynamic_cast(obj->parent, TYPE_DEVICE)) {
        obj = obj->parent;
    }
    return obj;
}

static char *object_describe(Object *obj)
{
    Object *top = object_user_sees(obj);
    const char *type = object_get_typename(top);
    g_autofree char *path = object_get_canonical_path(top);
    DeviceState *dev;

    if (object_dynamic_cast(top, TYPE_MACHINE)) {
        return g_strdup_printf("machine '%s'", type);
    }
    dev = (DeviceState *)object_dynamic_cast(top, TYPE_DEVICE);
    if (dev) {
        return g_strdup_printf("device '%s' (%s)", dev->id ?: path, type);
    }
    return g_strdup_printf("object '%s' (%s)",
                           object_get_canonical_path_component(top), type);
}

static char *bypass_describe(const RAMBypass *bypass)
{
    Object *obj;

    if (bypass->netdev) {
        return g_strdup_printf("network backend '%s' (%s)", bypass->netdev,
                               NetClientDriver_str(bypass->netdev_type));
    }
    if (bypass->words) {
        return g_strdup(bypass->words);
    }
    obj = object_at(bypass->part) ?: object_at(bypass);
    return obj ? object_describe(obj) : g_strdup("something without a name");
}

static void bypass_refuse(const RAMBypass *bypass, const char *advice,
                          Error **errp)
{
    g_autofree char *what = bypass_describe(bypass);

    ram_bypass_refuse(errp, what, bypass->why, bypass->advice ?: advice);
}

/* --- Those who are registered --- */

bool ram_bypass_may_register(const RAMBypass *bypass, Error **errp)
{
    if (bypass->postponable || !postcopy_kvm_userfault_active()) {
        return true;
    }
    bypass_refuse(bypass, ADVICE_PLUG, errp);
    return false;
}

bool ram_bypass_register(RAMBypass *bypass, Error **errp)
{
    GLOBAL_STATE_CODE();
    assert(!bypass->registered);

    if (!ram_bypass_may_register(bypass, errp)) {
        return false;
    }
    QLIST_INSERT_HEAD(&bypasses, bypass, next);
    bypass->registered = true;
    return true;
}

void ram_bypass_unregister(RAMBypass *bypass)
{
    GLOBAL_STATE_CODE();

    if (bypass->registered) {
        QLIST_REMOVE(bypass, next);
        bypass->registered = false;
    }
}

bool ram_bypass_may_start(const RAMBypass *bypass, Error **errp)
{
    if (!postcopy_kvm_userfault_active()) {
        return true;
    }
    bypass_refuse(bypass, "it is not started before the migration has "
                  "completed", errp);
    return false;
}

static bool bypasses_none(Error **errp)
{
    RAMBypass *bypass;

    QLIST_FOREACH(bypass, &bypasses, next) {
        if (!bypass->postponable) {
            bypass_refuse(bypass, ADVICE_VM, errp);
            return false;
        }
    }
    return true;
}

/* --- Those who have not said so --- */

/*
 * Listeners that are told of sections of memory, and why they may be.  Whoever
 * is new here asks itself what it does with pages that are missing.
 */
static const char *const known_listeners[] = {
    /* Behind the bitmaps of missing pages */
    "kvm-memory",
    "kvm-smram",
    /* Counts sections */
    "memory-device",
    /* Their owners register */
    "proxy",
    "vfio",
    "vfio-tracking",
    "vhost",
    "vhost-iommu",
    "vhost-vdpa",
};

/* MemoryListener *, of those that are not known.  Protected by the BQL. */
static GSList *unknown_listeners;

static const char *listener_name(const MemoryListener *listener)
{
    return listener->name ?: "without a name";
}

static bool listener_is_known(const MemoryListener *listener)
{
    if (!listener->region_add && !listener->region_nop) {
        return true;
    }
    for (int i = 0; i < ARRAY_SIZE(known_listeners); i++) {
        if (!g_strcmp0(listener->name, known_listeners[i])) {
            return true;
        }
    }
    return false;
}

static void listener_refuse(const MemoryListener *listener, const char *advice,
                            Error **errp)
{
    g_autofree char *what = g_strdup_printf("memory listener '%s'",
                                            listener_name(listener));

    ram_bypass_refuse(errp, what, "nobody knows what it does with guest memory",
                      advice);
}

bool ram_bypass_may_listen(MemoryListener *listener)
{
    Error *err = NULL;

    if (listener_is_known(listener)) {
        return true;
    }
    if (postcopy_kvm_userfault_active()) {
        listener_refuse(listener, "it gets none", &err);
        error_report_err(err);
        return false;
    }
    unknown_listeners = g_slist_prepend(unknown_listeners, listener);
    return true;
}

void ram_bypass_listener_gone(MemoryListener *listener)
{
    unknown_listeners = g_slist_remove(unknown_listeners, listener);
}

static bool listeners_none(Error **errp)
{
    if (!unknown_listeners) {
        return true;
    }
    listener_refuse(unknown_listeners->data, ADVICE_VM, errp);
    return false;
}

/* --- Classes --- */

/* ObjectClass * to the reason.  Protected by the BQL, under which they come. */
static GHashTable *classes;

void ram_bypass_set_class(ObjectClass *klass, const char *why)
{
    if (!classes) {
        classes = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_insert(classes, klass, (void *)why);
}

/* The reason of the class or one that it inherits from, or NULL. */
static const char *class_why(ObjectClass *klass)
{
    const char *why = NULL;

    while (klass && !why) {
        why = g_hash_table_lookup(classes, klass);
        klass = object_class_get_parent(klass);
    }
    return why;
}

typedef struct ClassCheck {
    const char *advice;
    Error **errp;
} ClassCheck;

static int class_check(Object *obj, void *opaque)
{
    const char *why = class_why(object_get_class(obj));
    ClassCheck *check = opaque;
    g_autofree char *what = NULL;

    if (!why) {
        return 0;
    }
    what = object_describe(obj);
    ram_bypass_refuse(check->errp, what, why, check->advice);
    return 1;
}

static bool classes_none(const char *advice, Error **errp)
{
    ClassCheck check = { .advice = advice, .errp = errp };

    return !classes ||
           !object_child_foreach_recursive(object_get_root(), class_check,
                                           &check);
}

bool ram_bypass_may_plug(Error **errp)
{
    /* All was well before, so it is the new device. */
    return !postcopy_kvm_userfault_active() || classes_none(ADVICE_PLUG, errp);
}

bool ram_bypass_none(Error **errp)
{
    GLOBAL_STATE_CODE();

    return classes_none(ADVICE_VM, errp) && bypasses_none(errp) &&
           listeners_none(errp);
}
