# SPDX-License-Identifier: GPL-2.0-or-later
"""
Cases: each migrates a guest, and has a folder of its own.
"""

from contextlib import ExitStack
from pathlib import Path
import tempfile
from typing import (
    Callable,
    Iterable,
    List,
    Optional,
)

from kuf import tap
from kuf.devices.migration import Conditions, Migration
from kuf.guest.backing import prepared
from kuf.guest.worker import MEMORY, Worker


# The end of a log.
TRACED = 12


def logs(vms: Iterable[Worker], verbose: bool) -> str:
    """What QEMU said, and the guest, of which the last is enough."""
    text = ''
    for vm in vms:
        lines = (vm.get_log() or '').splitlines()
        # Much of it can be trace events.
        said = [line for line in lines[:-TRACED] if line.startswith('qemu-')]
        lines = lines if verbose else said + lines[-TRACED:]
        text += f'QEMU, {vm.side}:\n' + '\n'.join(lines) + '\n'
        lines = vm.console().splitlines()
        lines = lines if verbose else lines[-8:]
        text += f'guest, {vm.side}:\n' + '\n'.join(lines) + '\n'
    return text


def attempt(case: Migration, verbose: bool) -> Optional[str]:
    """Run one; returns what there is to say, or None if it has failed."""
    result = None
    try:
        result = case.run()
    except Exception as exc:  # pylint: disable=broad-except
        # A QEMU that dies is most often told by a connection that does.
        tap.comment(f'{type(exc).__name__}: {exc}')
        for vm in case.vms:
            if not vm.is_running() and vm.exitcode() is not None:
                tap.comment(f'the {vm.side} has ended, {vm.exit_reason()}')
    finally:
        case.close()
    if verbose or result is None:
        tap.comment(logs(case.vms, verbose))
    return result


def run_cases(names: List[str], conditions: Conditions,
              create: Callable[[str, Path], Migration]) -> int:
    """Run them all; returns the exit status."""
    tap.plan(len(names))
    failed = 0
    with ExitStack() as stack:
        if conditions.backing:
            stack.enter_context(prepared(conditions.backing, MEMORY))
        for number, name in enumerate(names, 1):
            with tempfile.TemporaryDirectory(
                    prefix='guest-', ignore_cleanup_errors=True) as job:
                result = attempt(create(name, Path(job)), conditions.verbose)
            failed += result is None
            tap.result(number, result is not None, f'{name} {conditions}'
                       + (f': {result}' if result else ''))
    return int(failed > 0)
