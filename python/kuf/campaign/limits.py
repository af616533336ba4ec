# SPDX-License-Identifier: GPL-2.0-or-later
"""
A process that may not have more memory, in a host that has swap.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


CGROUPS = Path('/sys/fs/cgroup')


def _move(process: int, group: Path) -> None:
    try:
        (group / 'cgroup.procs').write_text(str(process), encoding='ascii')
    except ProcessLookupError:
        pass  # it has just ended


@contextmanager
def limited(process: int, megabytes: int) -> Iterator[None]:
    """
    Of all memory that it allocates meanwhile, so much stays; for more, other
    pages are paged out.
    """
    group = CGROUPS / 'campaign'
    (CGROUPS / 'cgroup.subtree_control').write_text('+memory', encoding='ascii')
    group.mkdir(exist_ok=True)
    limit = group / 'memory.high'
    limit.write_text(str(megabytes << 20), encoding='ascii')
    _move(process, group)
    try:
        yield
    finally:
        limit.write_text('max', encoding='ascii')
        _move(process, CGROUPS)
