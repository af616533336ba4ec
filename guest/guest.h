/*
 * The guest that is migrated: what its works have in common
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>

#define PAGE        4096
#define MB          (1024 * 1024)

/* No line on the console is longer, with its end. */
#define LINE        255

/* Of the work that this process does. */
extern const char *work_name;

/* A line on the console, in one piece, whoever else writes. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Say why this work can't go on (@what, and errno), and end it. */
void die(const char *what) __attribute__((noreturn));

/* The last line on the console: end all works, of whatever process. */
void end_all(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

/* Zeroed memory that is only used when it is touched; never fails. */
void *allocate(size_t size);

/* Works; @arg is what follows the name and a colon, or NULL. */
void work_stress(char *arg) __attribute__((noreturn));

#endif
