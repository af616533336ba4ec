# SPDX-License-Identifier: GPL-2.0-or-later
"""
The fork's C: its own files, and what its patches add to QEMU's.
"""

from pathlib import Path
import re
from typing import Dict, Iterator, Tuple

from kuf.paths import TOP


OVERLAY = ('accel', 'hw', 'include', 'migration', 'monitor', 'system',
           'target')


def overlay() -> Iterator[Tuple[str, str]]:
    """The fork's files, by their paths."""
    for folder in OVERLAY:
        for path in sorted((TOP / folder).rglob('*.[ch]')):
            if not path.is_symlink():
                yield str(path.relative_to(TOP)), path.read_text('utf-8')


def added(patch: Path) -> Iterator[Tuple[str, str]]:
    """Lines that a patch adds, by file."""
    files = re.split(r'^diff --git ', patch.read_text('utf-8'), flags=re.M)
    for file in files[1:]:
        path = re.search(r'^\+\+\+ b/(\S+)$', file, re.M)
        if path:
            yield path[1], ''.join(line + '\n' for line in re.findall(
                r'^\+(?!\+\+ )(.*)$', file, re.M))


def sources() -> Dict[str, str]:
    """All of it, by file."""
    found = dict(overlay())
    for patch in sorted((TOP / 'patches').glob('*.patch')):
        for path, text in added(patch):
            found[path] = found.get(path, '') + text
    return found


def strings(text: str) -> str:
    """What a text in C says, with strings that are broken joined."""
    return re.sub(r'"\s*\n\s*"', '', text)
