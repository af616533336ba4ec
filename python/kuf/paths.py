# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where things are.
"""

from pathlib import Path

from kuf.cli import Failure


TOP = Path(__file__).resolve().parents[2]

# What configure and make have made.
BUILD = TOP / 'build'
SOURCES = BUILD / 'src'
BASE_BUILD = BUILD / 'base-build'
QEMU_PACKAGES = SOURCES / 'qemu/python'
SELFTESTS = BUILD / 'selftests'

# What programs leave behind: what came out of a run, and, after one that did
# not end well, all that there is of it.
RESULTS = BUILD / 'results'
JOBS = BUILD / 'jobs'


def require(path: Path, what: str, how: str) -> Path:
    """The path, if it is there."""
    if not path.exists():
        raise Failure(f'{what} is not built; build it with: {how}')
    return path
