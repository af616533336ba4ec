# SPDX-License-Identifier: GPL-2.0-or-later
"""
Processes: ours, which can be interrupted, those that we start, and the
terminal.
"""

import os
from pathlib import Path
import signal
import subprocess
import sys
import termios
import tty
from typing import (
    Any,
    Callable,
    List,
    Optional,
    Sequence,
    Union,
)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# If this process is killed, what is started by that goes with it.
WITH_US = ('setpriv', '--pdeathsig', 'KILL')


# Of a command line.
Word = Union[str, Path]


class Interrupted(SystemExit):
    """A signal has come; the status is that of a process that it kills."""

    # Of the one that has come; there is no second one.
    status = 0
    # Whether it waits, for a process that is being started would be lost.
    held = False


def reraise_interrupt() -> None:
    """
    If a signal has come, it is why we end, whatever the exception is that is
    handled: it can be what a call has made of being cut short.
    """
    if Interrupted.status:
        raise Interrupted(Interrupted.status)


def interruptible(main: Callable[[], int], also: Sequence[int] = ()) -> int:
    """
    Run a program's main(); returns its exit status.

    A signal is an exception there, which takes all with it that was started;
    only once, so that nothing cuts this short.
    """
    signals = (*SIGNALS, *also)

    def interrupt(signum: int, _frame: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        Interrupted.status = 128 + signum
        if not Interrupted.held:
            raise Interrupted(Interrupted.status)

    for number in signals:
        signal.signal(number, interrupt)
    status = 1
    try:
        status = main()
    except BaseException:  # pylint: disable=broad-except
        if not Interrupted.status:
            raise
    return Interrupted.status or status


def run(command: Sequence[Word], **how: Any) -> int:
    """
    Run a program, as by subprocess.call(); returns its status.

    Whatever ends this program meanwhile ends that one first, which has the
    time that it needs to end what it has started.
    """
    Interrupted.held = True
    try:
        started = subprocess.Popen(command, **how)
    finally:
        Interrupted.held = False
    with started as running:
        try:
            reraise_interrupt()
            return running.wait()
        except BaseException:
            running.terminate()
            running.wait()
            raise


def threads(process: int, name: str) -> List[int]:
    """A process's threads whose names begin so."""
    found = []
    for task in Path(f'/proc/{process}/task').iterdir():
        try:
            if (task / 'comm').read_text('ascii').startswith(name):
                found.append(int(task.name))
        except OSError:
            pass  # it has just ended
    return sorted(found)


class Terminal:
    """The caller's terminal, raw and as it was before."""

    def __init__(self, wanted: bool):
        self.saved: Optional[List[Any]] = None
        self.size = os.terminal_size((80, 24))
        if wanted:
            self.size = os.get_terminal_size(sys.stdin.fileno())
            self.saved = termios.tcgetattr(sys.stdin)

    def __enter__(self) -> 'Terminal':
        if self.saved:
            tty.setraw(sys.stdin)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.saved:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self.saved)
