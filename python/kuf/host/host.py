# SPDX-License-Identifier: GPL-2.0-or-later
"""
An emulated host that runs one job, whatever it is emulated by.
"""

from pathlib import Path
import re
import shutil
import sys
import tempfile
from typing import Optional

from kuf.cli import Failure
from kuf.emulators import Emulator
from kuf.host import status
from kuf.host.complaints import first_complaint, taint_complaint
from kuf.host.job import Job
from kuf.host.kernels import host_kernel
from kuf.paths import JOBS, require


def available_memory() -> int:
    """Memory that this machine can give, in megabytes."""
    meminfo = Path('/proc/meminfo').read_text(encoding='ascii')
    match = re.search(r'^MemAvailable: *(\d+) kB', meminfo, re.M)
    return int(match[1]) // 1024 if match else sys.maxsize


def check_memory(wanted: int) -> None:
    """Is there room for a host with so many megabytes?"""
    if (there := available_memory()) < wanted:
        raise Failure(
            f'the host needs {wanted} MB of memory and this machine has '
            f'{there} MB free; give a smaller --mem')


# For every host's kernel.  KVM gives guests the TSC's rate as it is first
# calibrated, and then finds that it is not the refined one, which can be a
# thousandth away.  The timer works, but the check for that wants interrupts in
# time, which a machine with much else to do does not give.
APPEND = ('loglevel=5 printk.time=1 panic=-1 oops=panic no_timer_check '
          'kvm.tsc_tolerance_ppm=10000')


class Host:
    """
    A host with a folder for one job.

    The folder has the kernel's console as console.log.  It stays there if the
    job did not end well.
    """

    # The beginning of the folder's name.
    prefix: str
    # What is shown of a host that was given up.
    evidence = "the host's log is"

    def __init__(self, job: Job, emulator: Emulator):
        self.job = job
        self.emulator = emulator
        self.binary = require(emulator.binary, emulator.name,
                              emulator.made_by)
        self.kernel = host_kernel(job.kernel, emulator.architecture)
        check_memory(job.memory)
        JOBS.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f'{self.prefix}-',
                                            dir=JOBS))

    # What emulators differ in

    def attend(self) -> Optional[bytes]:
        """
        Start it, and let it run to its end.

        Returns "STATUS TAINT" as init reported it, nothing if the host ended
        without that, and None after the timeout.
        """
        raise NotImplementedError

    def kill(self) -> None:
        """End it now, if it runs."""
        raise NotImplementedError

    def state(self) -> str:
        """Why does it hang?  As lines."""
        return ''

    def emulator_log(self) -> str:
        """What the emulator itself said, as lines."""
        return ''

    def aside(self) -> str:
        """What the command had to say and no stream was there for."""
        return ''

    # What they have in common

    def command_line(self, *more: str) -> str:
        """The kernel's; MORE is what the emulator wants."""
        return ' '.join(filter(None, [APPEND, *more, self.job.append]))

    def log(self, name: str) -> str:
        """A log in the job's folder, if it has been begun."""
        path = self.folder / name
        return path.read_text(errors='replace') if path.exists() else ''

    def console(self) -> str:
        """All that the host's kernel has printed."""
        return self.log('console.log')

    def complaint(self, report: bytes) -> Optional[str]:
        """What its kernel complained of, if it did."""
        if found := first_complaint(self.console()):
            return found
        if not report:
            return 'the host ended before the command did'
        return taint_complaint(int(report.split()[1]))

    def tell(self, text: str, error: str) -> None:
        """Why there is no status of the command."""
        print(f'{text}{self.job.prog}: error: {error} above, and in '
              f'{self.folder}', file=sys.stderr)

    def give_up(self) -> int:
        """Show what it is doing instead of ending."""
        if state := self.state():
            (self.folder / 'state.log').write_text(state, encoding='utf-8')
        self.tell(f'{state}{self.console()}', 'the command did not end in '
                  f'{self.job.timeout:g} s; {self.evidence}')
        return status.TIMEOUT

    def end(self, report: bytes) -> int:
        """The job's status."""
        if reason := self.complaint(report):
            self.tell(f'{self.console()}{self.emulator_log()}',
                      f"the host's kernel failed: {reason}; its log is")
            return status.FAILED
        sys.stderr.write(self.aside())
        shutil.rmtree(self.folder, ignore_errors=True)
        return int(report.split()[0])

    def run(self) -> int:
        """Run the job; returns its exit status, or see kuf.host.status."""
        try:
            report = self.attend()
            if report is None:
                return self.give_up()
        except Failure:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self.kill()
        return self.end(report)
