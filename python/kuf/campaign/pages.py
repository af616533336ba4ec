# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the host does with the pages of a process.
"""

import ctypes
import mmap
import os
from pathlib import Path
import random
import re
from typing import Iterator, List, Tuple


PAGE = mmap.PAGESIZE
# <asm-generic/unistd.h>, <asm-generic/mman-common.h>
PROCESS_MADVISE = 440
MADV_PAGEOUT = 21
# Documentation/admin-guide/mm/pagemap.rst in Linux.
ENTRY = 8
PRESENT = 1 << 63
FRAME = (1 << 55) - 1
# Smaller mappings are no guest's memory, nor its bitmap.
LEAST = 8 * PAGE


class _Range(ctypes.Structure):
    """struct iovec"""
    _fields_ = [('start', ctypes.c_void_p), ('length', ctypes.c_size_t)]


def mappings(process: int) -> List[Tuple[int, int]]:
    """What a process can read and write: starts and lengths."""
    try:
        text = Path(f'/proc/{process}/maps').read_text(encoding='utf-8')
    except OSError:
        return []  # it has just ended
    found = [(int(start, 16), int(end, 16)) for start, end in
             re.findall(r'^(\w+)-(\w+) rw', text, re.M)]
    return [(start, end - start) for start, end in found
            if end - start >= LEAST]


def page_out(process: int) -> None:
    """All that it has in memory, as far as the host can do without."""
    try:
        there = os.pidfd_open(process)
    except ProcessLookupError:
        return
    libc = ctypes.CDLL(None)
    try:
        for start, length in mappings(process):
            part = _Range(start, length)
            # What can't be paged out stays where it is.
            libc.syscall(ctypes.c_long(PROCESS_MADVISE), ctypes.c_int(there),
                         ctypes.byref(part), ctypes.c_ulong(1),
                         ctypes.c_int(MADV_PAGEOUT), ctypes.c_uint(0))
    finally:
        os.close(there)


def _frame(process: int, address: int) -> int:
    """The page frame that is mapped there, 0 if there is none."""
    with open(f'/proc/{process}/pagemap', 'rb', buffering=0) as table:
        entry = int.from_bytes(os.pread(table.fileno(), ENTRY,
                                        address // PAGE * ENTRY), 'little')
    return entry & FRAME if entry & PRESENT else 0


def frames(process: int, count: int) -> Iterator[int]:
    """Some page frames of the largest mapping, which is the guest's memory."""
    start, length = max(mappings(process), default=(0, 0),
                        key=lambda mapping: mapping[1])
    for _ in range(count if length else 0):
        try:
            if frame := _frame(process, start + random.randrange(length)):
                yield frame
        except OSError:
            return  # it has just ended
