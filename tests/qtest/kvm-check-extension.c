/*
 * Preloaded into QEMU: a KVM that answers KVM_CHECK_EXTENSION otherwise
 *
 * The environment's KVM_CAP_USERFAULT is what this host's KVM says of that
 * extension.  All else goes to the kernel.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include "linux/kvm.h"

int ioctl(int fd, unsigned long request, ...)
{
    const char *answer = getenv("KVM_CAP_USERFAULT");
    va_list ap;
    long arg;

    va_start(ap, request);
    arg = va_arg(ap, long);
    va_end(ap);

    if (answer && request == KVM_CHECK_EXTENSION && arg == KVM_CAP_USERFAULT) {
        return atoi(answer);
    }
    return syscall(SYS_ioctl, fd, request, arg);
}
