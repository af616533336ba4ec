/*
 * Preloaded into QEMU: a KVM that is not what this host's is
 *
 * Each variable of the environment that is set changes one thing.  All else
 * goes to the kernel.
 *
 * KVM_CAP_USERFAULT: what KVM_CHECK_EXTENSION says of that extension
 * KVM_REFUSE_USERFAULT: no memslot can have KVM_MEM_USERFAULT
 * KVM_MEMORY_FAULT_FLAGS: what KVM_EXIT_MEMORY_FAULT for a missing page has
 *   among its flags, beside what is there (decimal)
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "linux/kvm.h"

/* The file descriptors of a small QEMU. */
#define MAX_FDS 1024

/* No functions of GLib: whatever starts QEMU may not have it. */

/* Of the vCPU @fd, which only one thread runs at a time. */
static struct kvm_run *run_of(int fd)
{
    static struct kvm_run *runs[MAX_FDS];

    assert(fd < MAX_FDS);
    if (!runs[fd]) {
        runs[fd] = mmap(NULL, sizeof(*runs[fd]), PROT_READ | PROT_WRITE,
                        MAP_SHARED, fd, 0);
        assert(runs[fd] != MAP_FAILED);
    }
    return runs[fd];
}

static void add_flags(int fd, const char *flags)
{
    struct kvm_run *run = run_of(fd);

    if (run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
        run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT) {
        run->memory_fault.flags |= atoll(flags);
    }
}

static bool refused(unsigned long request, long arg)
{
    const struct kvm_userspace_memory_region2 *mem = (void *)arg;

    return request == KVM_SET_USER_MEMORY_REGION2 &&
           mem->flags & KVM_MEM_USERFAULT && getenv("KVM_REFUSE_USERFAULT");
}

int ioctl(int fd, unsigned long request, ...)
{
    const char *answer = getenv("KVM_CAP_USERFAULT");
    const char *flags = getenv("KVM_MEMORY_FAULT_FLAGS");
    va_list ap;
    long arg;
    int ret, err;

    va_start(ap, request);
    arg = va_arg(ap, long);
    va_end(ap);

    if (answer && request == KVM_CHECK_EXTENSION && arg == KVM_CAP_USERFAULT) {
        return atoi(answer);
    }
    if (refused(request, arg)) {
        errno = EINVAL;
        return -1;
    }
    ret = syscall(SYS_ioctl, fd, request, arg);
    err = errno;
    if (ret < 0 && flags && request == KVM_RUN) {
        add_flags(fd, flags);
    }
    errno = err;
    return ret;
}
