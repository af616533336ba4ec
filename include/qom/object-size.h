/*
 * How large an object is
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QOM_OBJECT_SIZE_H
#define QOM_OBJECT_SIZE_H

#include "qom/object.h"

/**
 * object_get_size: the size of @obj in bytes, which is that of its type's
 * instances
 *
 * Whoever has a pointer to a part of an object finds out by this whose it is.
 */
size_t object_get_size(const Object *obj);

#endif /* QOM_OBJECT_SIZE_H */
