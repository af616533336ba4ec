# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a host's kernel complains of: panics, oopses and warnings.
"""

from pathlib import Path
import re
from typing import Optional


# Bits of /proc/sys/kernel/tainted: bad page, died, warned, soft lockup.
_TAINT = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14

# What the kernel says of itself and does not always mark as a taint.
_MESSAGE = re.compile(
    r'^(\[ *[0-9.]+\] )?'
    r'(WARNING: |BUG: |Oops|Kernel panic|UBSAN: |KASAN: |INFO: task '
    r'|INFO: rcu|rcu: INFO|general protection fault)', re.M)


def first_complaint(text: str) -> Optional[str]:
    """The first line of messages that is a complaint, if any is."""
    match = _MESSAGE.search(text)
    return text[match.start():].splitlines()[0] if match else None


def taint_complaint(taint: int) -> Optional[str]:
    """A complaint, if that is what a taint is of."""
    return f'taint {taint:#x}' if taint & _TAINT else None


def own_taint() -> int:
    """The taint of the kernel that we run on."""
    return int(Path('/proc/sys/kernel/tainted').read_text('ascii'))
