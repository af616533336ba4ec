# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the guest writes to a disk, see stamp_page() in init.c.
"""

from pathlib import Path
import struct

from kuf.guest.machine import GuestError


PAGE = 4096
WORDS = PAGE // 8
FIRST = 0x9e3779b97f4a7c15
STEP = 0xd1342543de82ef95
MASK = (1 << 64) - 1
INVERSE = pow(FIRST, -1, 1 << 64)
# Words that are looked at: memory that was missing is so by pages.
LOOKED_AT = (0, 1, WORDS // 2, WORDS - 1)


def check_stamp(data: bytes, page: int) -> None:
    """A page of a disk has what the guest wrote there, or nothing."""
    words = [struct.unpack_from('<Q', data, 8 * n)[0] for n in LOOKED_AT]
    if not any(words):
        return
    written = (words[0] - 1) * INVERSE & MASK
    want = [words[0] + n * STEP & MASK for n in LOOKED_AT]
    if written >> 32 != page or words != want:
        raise GuestError(f'page {page} of the disk has {words[0]:016x}, which '
                         'the guest did not write there')


def check_disk(path: Path) -> int:
    """
    All of it was written by the guest, as it is; returns the number of pages
    that were.
    """
    written = 0
    with open(path, 'rb') as disk:
        page = 0
        while data := disk.read(PAGE):
            check_stamp(data, page)
            written += any(data)
            page += 1
    return written
