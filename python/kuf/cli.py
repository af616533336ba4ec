# SPDX-License-Identifier: GPL-2.0-or-later
"""
What command lines have in common: arguments, errors, exit statuses, words.
"""

import argparse
import re
import subprocess
import sys
from typing import Any, Callable, Sequence

from kuf import process


class Failure(Exception):
    """It can't be done; one sentence that says why, and what to do."""


def parser(prog: str, description: str, **how: Any) -> argparse.ArgumentParser:
    """A parser that shows a description with its lines as they are."""
    return argparse.ArgumentParser(
        prog=prog, description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter, **how)


def positive(text: str) -> int:
    """An argument: a number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1")
    return int(text)


def megabytes(text: str) -> int:
    """
    An argument: a size as QEMU's -m takes it, which is megabytes, or has a
    suffix M or G.
    """
    match = re.fullmatch(r'(\d+)([MG]?)', text, re.I)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a size such as 4G or 512M")
    return int(match[1]) * (1024 if match[2] in ('G', 'g') else 1)


def counted(count: Any, noun: str) -> str:
    """So many of something; None is not known how many."""
    shown = '?' if count is None else str(count)
    return f"{shown} {noun}{'' if count == 1 else 's'}"


def run(prog: str, main: Callable[[], int], *, failed: int = 1,
        also: Sequence[int] = ()) -> int:
    """
    Run a program; returns its exit status.

    What can't be done is one sentence on standard error, and the status
    FAILED.  A signal ends it in order, see process.interruptible(); ALSO are
    more signals that do.
    """
    def guarded() -> int:
        try:
            return main()
        except (Failure, OSError, subprocess.SubprocessError) as exc:
            process.reraise_interrupt()
            print(f'{prog}: error: {exc}', file=sys.stderr)
            return failed
    return process.interruptible(guarded, also)
