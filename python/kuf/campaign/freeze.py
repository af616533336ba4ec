# SPDX-License-Identifier: GPL-2.0-or-later
"""
One thread of a process that stands still while the others go on, as it does on
a host that is short of processors.
"""

from contextlib import contextmanager
import ctypes
import os
from typing import Iterator


# <linux/ptrace.h>
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
# <linux/wait.h>: threads are waited for as well.
WALL = 0x40000000


def _ptrace(request: int, thread: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    none = ctypes.c_void_p(0)
    if libc.ptrace(ctypes.c_long(request), ctypes.c_int(thread), none,
                   none) == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


@contextmanager
def frozen(thread: int) -> Iterator[None]:
    """It stands still, wherever it is; nothing if it has just ended."""
    try:
        _ptrace(PTRACE_SEIZE, thread)
        _ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        try:
            _ptrace(PTRACE_DETACH, thread)
        except OSError:
            pass
