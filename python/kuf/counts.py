# SPDX-License-Identifier: GPL-2.0-or-later
"""
How often something has run, and failed.
"""

from typing import Dict, List


# Of each name, the runs, and those that failed.
Counts = Dict[str, List[int]]


def add(counts: Counts, name: str, runs: int, failed: int) -> None:
    """So many more of that name."""
    before = counts.get(name, [0, 0])
    counts[name] = [before[0] + runs, before[1] + failed]


def add_all(counts: Counts, more: Counts) -> None:
    """All of others."""
    for name, numbers in more.items():
        add(counts, name, *numbers)
