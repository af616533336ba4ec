# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a host's kernel is told by files in /proc and /sys.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Mapping

from kuf.cli import Failure


def write(path: Path, value: str) -> None:
    """Tell the host."""
    try:
        path.write_text(value, encoding='ascii')
    except OSError as exc:
        raise Failure(f"'{value}' can't be written to {path}: "
                      f'{exc.strerror}; it takes root') from exc


def read(path: Path) -> str:
    """What the host has been told: the word in brackets, or all."""
    text = path.read_text(encoding='ascii').strip()
    return text[text.index('[') + 1:text.index(']')] if '[' in text else text


@contextmanager
def changed(wanted: Mapping[Path, str]) -> Iterator[None]:
    """The host has these, and afterwards what it had before."""
    before = {path: read(path) for path in wanted}
    differ = [path for path, value in wanted.items() if before[path] != value]
    try:
        for path in differ:
            write(path, wanted[path])
        yield
    finally:
        for path in differ:
            write(path, before[path])
