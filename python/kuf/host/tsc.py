# SPDX-License-Identifier: GPL-2.0-or-later
"""
How fast this machine's time stamp counter runs.

TCG's processors have it as it is.  A kernel there that finds out by itself, as
it boots, compares it with a timer that other work on this machine holds up: it
may believe that the counter has a third of its rate.  Then its clock is three
times too fast, and all that waits for something gives up three times too early.
"""

import ctypes
import mmap
import time
from typing import Callable, Tuple


# rdtsc; shl $32, %rdx; or %rdx, %rax; ret
_CODE = bytes.fromhex('0f31 48c1e220 4809d0 c3')
# To be right in the fifth digit.
_SECONDS = 0.05


def _sample(counter: Callable[[], int]) -> Tuple[int, int]:
    """A time in nanoseconds, and the counter then: the best of some."""
    samples = []
    for _ in range(20):
        before = time.monotonic_ns()
        count = counter()
        after = time.monotonic_ns()
        samples.append((after - before, (before + after) // 2, count))
    _, now, count = min(samples)
    return now, count


def khz() -> int:
    """Thousands a second; an OSError if this process must not know."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE
                   | mmap.PROT_EXEC) as page:
        page.write(_CODE)
        # The mapping can't be closed while that is there.
        start = ctypes.c_char.from_buffer(page)
        try:
            counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(
                ctypes.addressof(start))
            began, first = _sample(counter)
            time.sleep(_SECONDS)
            ended, last = _sample(counter)
        finally:
            del start
    return round((last - first) * 1_000_000 / (ended - began))


def append() -> str:
    """For the command line of a kernel on TCG."""
    try:
        return f'tsc_early_khz={khz()}'
    except OSError:
        # It has to find out.
        return ''
