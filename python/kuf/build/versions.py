# SPDX-License-Identifier: GPL-2.0-or-later
"""Versions, as Debian orders them."""

import re
from typing import Any, List, Tuple


def _weight(char: str) -> int:
    """A tilde is before the end, and a letter before everything else."""
    if char == '~':
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _part_key(part: str) -> List[Any]:
    return [([_weight(char) for char in text] + [0], int(number or 0))
            for text, number in re.findall(r'(\D*)(\d*)', part)]


def key(version: str) -> Tuple[int, List[Any], List[Any]]:
    """What versions are sorted by."""
    epoch, _, rest = version.rpartition(':')
    upstream, _, revision = rest.rpartition('-') if '-' in rest \
        else (rest, '', '')
    return int(epoch or 0), _part_key(upstream), _part_key(revision)


def upstream(version: str) -> str:
    """Without Debian's epoch, revision and "+ds"."""
    version = version.split(':', 1)[-1]
    return version.rsplit('-', 1)[0].split('+', 1)[0]
