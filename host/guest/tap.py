# SPDX-License-Identifier: GPL-2.0-or-later
"""
What tests print: the Test Anything Protocol.
"""

from pathlib import Path
import shutil
import tempfile
from typing import Callable, Iterable, List, Optional, Sequence

from machine import Machine

# The end of a log.
TRACED = 12


class Case:
    """A guest that is migrated, and what is asked of that."""
    vms: Sequence[Machine] = ()

    def run(self) -> str:
        """Do it; returns what there is to say."""
        raise NotImplementedError

    def close(self) -> None:
        """End what still runs."""
        for vm in self.vms:
            vm.shutdown(hard=True)


def comment(text: str) -> None:
    """Text as TAP has it."""
    for line in text.splitlines():
        print(f'# {line}', flush=True)


def logs(vms: Iterable[Machine], verbose: bool) -> str:
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


def attempt(case: Case, verbose: bool) -> Optional[str]:
    """Run one; returns what there is to say, or None if it has failed."""
    result = None
    try:
        result = case.run()
    except Exception as exc:  # pylint: disable=broad-except
        # A QEMU that dies is most often told by a connection that does.
        comment(f'{type(exc).__name__}: {exc}')
        for vm in case.vms:
            if not vm.is_running() and vm.exitcode() is not None:
                comment(f'the {vm.side} has ended, {vm.exit_reason()}')
    case.close()
    if verbose or result is None:
        comment(logs(case.vms, verbose))
    return result


def run_cases(names: List[str], suffix: str, verbose: bool,
              create: Callable[[str, Path], Case]) -> int:
    """Run them all, each with a folder of its own; returns the exit status."""
    print(f'1..{len(names)}', flush=True)
    failed = 0
    for number, name in enumerate(names, 1):
        job = Path(tempfile.mkdtemp(prefix='guest-'))
        result = attempt(create(name, job), verbose)
        shutil.rmtree(job, ignore_errors=True)
        failed += result is None
        print(f"{'not ok' if result is None else 'ok'} {number} - {name} "
              f"{suffix}{': ' + result if result else ''}", flush=True)
    return int(failed > 0)
