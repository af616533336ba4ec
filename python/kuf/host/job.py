# SPDX-License-Identifier: GPL-2.0-or-later
"""
A command that is run in an emulated host, and the host that it wants.
"""

from dataclasses import dataclass
import os
from pathlib import Path
import re
import shlex
from typing import List, Mapping, Optional

from kuf.host.status import FAILED, NOT_FOUND


@dataclass
class Job:
    """What is run, and where."""
    # What messages call the program that was asked for it.
    prog: str
    command: List[str]
    kernel: str = 'default'
    smp: int = 1
    # In megabytes.
    memory: int = 4096
    # More for the kernel's command line.
    append: str = ''
    # Seconds until the host is given up, 0 for never.
    timeout: float = 0


def exports(environment: Mapping[str, str]) -> str:
    """An environment as a shell has it."""
    return ''.join(f'export {name}={shlex.quote(value)}\n'
                   for name, value in environment.items()
                   if re.fullmatch(r'[A-Za-z_]\w*', name))


def window(size: Optional[os.terminal_size]) -> str:
    """The caller's terminal has that size, if there is one."""
    return f'stty rows {size.lines} cols {size.columns}\n' if size else ''


def enter(folder: str) -> str:
    """Go to the folder that the caller is in."""
    return f'cd {shlex.quote(folder)} || exit {FAILED}\n'


def write_script(path: Path, job: Job, before: str = '') -> None:
    """The program that the host's init starts."""
    program = shlex.quote(job.command[0])
    path.write_text(
        f'#!/bin/sh\n{before}'
        f'command -v -- {program} >/dev/null || {{\n'
        f'    echo {job.prog}: {program}: command not found >&2\n'
        f'    exit {NOT_FOUND}\n'
        f'}}\n'
        f"exec {' '.join(map(shlex.quote, job.command))}\n",
        encoding='utf-8', errors='surrogateescape')
    path.chmod(0o755)
