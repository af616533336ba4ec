# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a finished step was made of.

A stamp is a file in what a step has made; it holds a value that stands for the
step's inputs, and goes when what it speaks of goes.
"""

from contextlib import contextmanager
import fcntl
import hashlib
import os
from pathlib import Path
import shutil
from typing import Iterator, Optional, Union

from kuf.cli import Failure


def checksum(*parts: Union[bytes, str, Path]) -> str:
    """SHA-256 of bytes, text and the contents of files, one after another."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open(part, 'rb') as file:
                for chunk in iter(lambda: file.read(1 << 20), b''):
                    digest.update(chunk)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def is_at(path: Path, value: str) -> bool:
    """Whether the step that the stamp is of was made of this."""
    try:
        return path.read_text(encoding='utf-8') == value + '\n'
    except FileNotFoundError:
        return False


def write(path: Path, content: Union[bytes, str]) -> None:
    """A file appears under its name, or changes, only when it is whole."""
    new = path.with_name(path.name + '.new')
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.rename(path)


def put(path: Path, value: str) -> None:
    """The step is done."""
    write(path, value + '\n')


@contextmanager
def lock(path: Path, busy: Optional[str] = None) -> Iterator[None]:
    """
    One at a time.  Who comes second waits or, with a sentence about that, is
    refused.  What was started keeps the lock as long as it runs, in case this
    process is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise Failure(str(busy)) from error
        os.set_inheritable(file.fileno(), True)
        yield


def remove(path: Path) -> None:
    """A folder, a file or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(new: Path, path: Path) -> None:
    """A folder appears under its name only when it is whole."""
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new.rename(path)


def need_space(folder: Path, megabytes: int, what: str) -> None:
    """Say so before a disk is full."""
    free = shutil.disk_usage(folder).free >> 20
    if free < megabytes:
        raise Failure(f"{what} needs {megabytes} MB of disk and '{folder}' has"
                      f' {free} MB free; free some space, then run the same '
                      'command again')
