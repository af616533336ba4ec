# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU with the guest that is migrated in tests, see guest/init.c.
"""

from pathlib import Path
import signal
import time
from typing import (
    Any,
    Dict,
    Iterator,
    Optional,
    Sequence,
)

from qemu.machine import QEMUMachine
from qemu.machine.machine import VMLaunchFailure
from qemu.qmp import ExecuteError, QMPError

from kuf.architectures import native
from kuf.cli import Failure
from kuf.paths import BUILD
from kuf.process import WITH_US


# Nothing that is waited for takes that long, in seconds.
PATIENCE = 240


class GuestError(Failure):
    """What went wrong with a side or its guest, as the end of a sentence."""


def pauses(what: str, length: float) -> Iterator[float]:
    """
    Pauses until the caller has what it waits for: how long it has waited, in
    seconds.  A GuestError if that was too long.
    """
    start = time.monotonic()
    while (waited := time.monotonic() - start) < PATIENCE:
        yield waited
        time.sleep(length)
    raise GuestError(f'no {what} in {PATIENCE} s')


def last_line(text: Optional[str]) -> str:
    """What a program has said at its end."""
    lines = (text or '').strip().splitlines()
    return lines[-1] if lines else 'nothing in its log'


class GuestMachine(QEMUMachine):
    """One side of a migration.  What goes wrong with it is a GuestError."""

    def __init__(self, side: str, job: Path, logs: Path, *, guest: str,
                 append: str, args: Sequence[str], kernel: str = 'image',
                 wrapper: Sequence[str] = (), qemu: Optional[Path] = None):
        """
        @param side: what errors and logs call it
        @param job: folder for its sockets
        @param logs: folder for its log
        @param guest: folder in build/ with the kernel
        @param kernel: what is booted there: image, or vmlinuz for firmware
        @param append: more for the kernel's command line
        @param wrapper: command that starts QEMU
        @param qemu: another one than build/qemu has
        """
        # pylint: disable=too-many-arguments
        # If this process is killed, QEMU goes with it; a terminal's Ctrl-C is
        # for this process, which then ends QEMU.
        architecture = native()
        super().__init__(str(qemu or architecture.qemu), name=side,
                         wrapper=['setsid', *WITH_US, *wrapper],
                         base_temp_dir=str(job), log_dir=str(logs),
                         qmp_timer=PATIENCE)
        self.side = side
        self.log_path = logs / f'{side}.log'
        self.add_args(
            '-name', f'{side},debug-threads=on', '-nodefaults',
            *architecture.guest_args(),
            '-kernel', str(BUILD / guest / 'kernel' / kernel),
            '-initrd', str(BUILD / guest / 'initramfs.cpio'),
            '-append', f'console={architecture.console} quiet panic=-1 nokaslr '
            # Who does not see KVM checks the timer, and fails on a busy host.
            f'mitigations=off nowatchdog no_timer_check {append}', *args)

    def launch(self) -> None:
        """Start it."""
        try:
            super().launch()
        except VMLaunchFailure as exc:
            raise GuestError(f'the {self.side} did not start: '
                             f'{last_line(exc.output)}') from exc

    def _load_io_log(self) -> None:
        # A stream that is not as it was sent brings any bytes into it.
        if self._qemu_log_path is not None:
            self._iolog = self.log_path.read_text(errors='replace')

    def cmd(self, cmd: str, args_dict: Optional[Dict[str, object]] = None,
            conv_keys: Optional[bool] = None, **args: Any) -> Any:
        """Run a QMP command."""
        try:
            return super().cmd(cmd, args_dict, conv_keys, **args)
        except ExecuteError as exc:
            raise GuestError(f"the {self.side} refused '{cmd}': "
                             f'{exc}') from exc
        except QMPError as exc:
            # Its connection is the first to go.
            self.wait_end()
            self.check_running()
            raise GuestError(f"the {self.side} does not answer to '{cmd}': "
                             f'{exc}') from exc

    def wait_end(self, patience: float = 5) -> float:
        """Wait a moment for it to end; returns when that was over."""
        # Popen.wait() would look at longer and longer intervals.
        deadline = time.monotonic() + patience
        while self._subp.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return time.monotonic()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._subp.send_signal(number)

    def check_running(self) -> None:
        """Has it not ended by itself?"""
        if not self.is_running():
            raise GuestError(f'the {self.side} has ended, '
                             f'{self.exit_reason()}: {self.last_words()}')

    def last_words(self) -> str:
        """What its log ends with."""
        return last_line(self.log_path.read_text(errors='replace'))

    def exit_reason(self) -> str:
        """How it has ended."""
        status = self.exitcode() or 0
        if status < 0:
            return signal.Signals(-status).name
        return f'status {status}'

    def capabilities(self, **states: bool) -> None:
        """Switch migration capabilities on or off."""
        self.cmd('migrate-set-capabilities', capabilities=[
            {'capability': name.replace('_', '-'), 'state': state}
            for name, state in states.items()])

    def migration(self) -> Dict[str, Any]:
        """What query-migrate says."""
        answer: Dict[str, Any] = self.cmd('query-migrate')
        if answer.get('status') == 'failed':
            raise GuestError(f'the {self.side} says that migration failed: '
                             f"{answer.get('error-desc', 'no reason')}")
        return answer
