# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrate guests that are busy with a device, by postcopy.

In the emulated host: host/run -- host/oracle [OPTIONS] DEVICE...

For each DEVICE, a Linux guest (guest) writes to it and reads from it all
the time, checks all that it reads, and writes to memory, while it is migrated
to another QEMU.  With KVM userfault and its oracle in the destination, memory
that has not arrived is out of reach for QEMU itself: if QEMU touches it where
the RAM wait is not asked before, it dies.

A device has passed if the guest goes on and never saw wrong data, and, with
KVM userfault, if no vCPU kept exiting for a page that was received, and if QEMU
waited for memory at least once for a device that does DMA.  virtio devices put
off what they need memory for, and do not wait.  Of the pages that a guest
reports as free, QEMU may ask for none.  Output is TAP.
"""

from dataclasses import dataclass
from pathlib import Path
import re
import time
from typing import (
    List,
    Sequence,
    Set,
    Tuple,
)

from kuf import cli
from kuf.devices import migration
from kuf.devices.cases import run_cases
from kuf.devices.migration import (
    FAST,
    KB,
    MB,
    PASSES,
    Conditions,
    Migration,
)
from kuf.guest.devices import DEVICES, create_network
from kuf.guest.echo import Echo
from kuf.guest.machine import GuestError
from kuf.guest.worker import Worker, check_screen, wait_for
from kuf.modes import KVM_USERFAULT, Mode
from kuf.tap import comment


PROG = 'host/oracle'

PAGE = 4 * KB
HUGE_PAGE = 2 * MB

# A write to this port is what raises an SMI.
SMI_TRACE = 'apm_io_write'

GDB = ['gdb', '-q', '-nx', '-batch',
       '-ex', 'handle SIGUSR1 SIGPIPE nostop noprint pass',
       '-ex', 'run', '-ex', 'backtrace', '-ex', 'print $_siginfo',
       '-ex', 'thread apply all backtrace 12', '--args']


@dataclass
class OracleConditions(Conditions):
    """What is asked of all devices."""
    devices: Sequence[str]
    # Missing memory is out of reach in the destination.
    oracle: bool
    gdb: bool

    def more(self) -> List[str]:
        return ['oracle'] if self.oracle else []


def parse_args() -> OracleConditions:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    migration.add_options(parser)
    parser.add_argument('--no-oracle', dest='oracle', action='store_false',
                        help='leave missing memory accessible')
    parser.add_argument('--no-preempt', dest='preempt', action='store_false',
                        help='pages asked for come behind those that come '
                        'anyway: fewer waits, and longer ones')
    parser.add_argument('--gdb', action='store_true',
                        help='show where the destination dies, if it does; '
                        'slow')
    migration.add_log_options(parser)
    parser.add_argument('device', metavar='DEVICE', nargs='+',
                        choices=list(DEVICES),
                        help='of: ' + ', '.join(DEVICES))
    args = parser.parse_args()
    return OracleConditions(
        Mode(args.mode, args.preempt), args.backing, args.trace, args.verbose,
        args.device,
        args.oracle and args.mode == KVM_USERFAULT, args.gdb)


class Oracle(Migration):
    """One device, from start to end."""

    def __init__(self, conditions: OracleConditions, name: str, job: Path,
                 echo: Echo):
        device = DEVICES[name]
        there = ['-trace', SMI_TRACE] if device.smm else []
        if conditions.oracle:
            there += ['-global',
                      'migration.x-postcopy-kvm-userfault-oracle=on']
        if device.report:
            there += ['-D', str(job / 'trace'),
                      '-trace', 'ram_wait_request',
                      '-trace', 'virtio_postcopy_return']
        super().__init__(conditions, job, device, there,
                         GDB if conditions.gdb else ())
        self.echo = echo
        # Whether it can be seen what is out of reach.
        self.oracle = conditions.oracle and not conditions.gdb
        self.running = 0.0

    def start(self) -> None:
        """Both sides, and a guest that works."""
        self.launch()
        self.configure()
        self.check_vhost(self.source, True)

    def switch(self) -> None:
        """The guest moves."""
        if self.device.report:
            self.source.tell_report('quiet')
        self.source.cmd('migrate-start-postcopy')
        for _ in wait_for('guest in the destination', *self.vms):
            if self.destination.cmd('query-status')['status'] == 'running':
                break
        self.running = time.monotonic()

    def migrate(self) -> None:
        """
        Most of memory is sent, the guest writes to much of it again and moves.
        What it uses there is sent as it asks for it, then all else.
        """
        uri = f'unix:{self.job}/migration'
        self.precopy(uri, uri)
        self.slow_down()
        self.switch()
        if self.oracle:
            self.check_oracle()
        self.check_vhost(self.destination, not self.mode.kvm_userfault)
        if self.device.report and self.mode.kvm_userfault:
            self.check_reports()
        self.destination.wait_passes(1, self.device.work or 'memory')
        if self.device.work == 'vga':
            check_screen(self.destination, self.job)
        self.check_smm()
        self.source.cmd('migrate-set-parameters', max_postcopy_bandwidth=FAST)
        self.wait_completed()

    def check_smm(self) -> None:
        """The guest was in system management mode while memory is missing."""
        if not self.device.smm:
            return
        count = self.destination.log_path.read_text().count(SMI_TRACE)
        comment(f'SMIs while memory is missing: {count}')
        if not count:
            raise GuestError('the guest raised no SMI while memory is missing')

    def requests(self, pages: Set[int]) -> Tuple[int, int]:
        """How many of these pages vCPUs asked for, and how many QEMU."""
        vcpus = self.destination.vcpu_threads()
        found = [0, 0]
        for page, tid in re.findall(
                r'^ram_wait_request pc\.ram offset 0x(\w+) .*?(\d+)$',
                (self.job / 'trace').read_text(errors='replace'), re.M):
            if int(page, 16) // PAGE in pages:
                found[int(tid) not in vcpus] += 1
        return found[0], found[1]

    def check_reports(self) -> None:
        """
        The guest frees memory that has not arrived, and says so to QEMU, which
        does not ask for it.
        """
        pages = {page for start in re.findall(r'^report: owns 0x(\w+)',
                                              self.source.console(), re.M)
                 for page in range(int(start, 16) // PAGE,
                                   (int(start, 16) + HUGE_PAGE) // PAGE)}
        before = sum(self.requests(pages))
        self.destination.tell_report('freed')
        reported = 0
        for _ in wait_for('reports of free pages', self.destination):
            vcpus, others = self.requests(pages)
            if others:
                raise GuestError(f'QEMU has asked for {others} of '
                                 f'{len(pages)} pages that are free')
            reported = len(re.findall(
                '^virtio_postcopy_return',
                (self.job / 'trace').read_text(errors='replace'), re.M))
            if reported:
                break
        comment(f'{len(pages) * PAGE // MB} MB freed and reported in '
                f'{reported} notifications; pages of it that QEMU asked for: '
                f'{others}, that vCPUs asked for: {vcpus}, before it was '
                f'freed: {before}')
        if vcpus > len(pages) // 10:
            raise GuestError(f'vCPUs asked for {vcpus} pages that are free')

    def check_vhost(self, vm: Worker, wanted: bool) -> None:
        """vhost does its work, but not while memory is missing."""
        if not self.device.vhost or vm.vhost_runs() == wanted:
            return
        raise GuestError(f'vhost does {"not " if wanted else ""}run')

    def check_oracle(self) -> None:
        """While memory is missing, QEMU can't get at it."""
        size = self.destination.out_of_reach()
        comment(f'out of reach: {size // KB} KB')
        if size < MB:
            raise GuestError('the oracle is not at work')

    def counts(self) -> str:
        """What the destination counted."""
        fault = self.destination.migration().get('postcopy-fault', {})
        stats = fault.get('kvm-userfault')
        if not stats:
            return self.mode.backend
        if fault['backend'] != self.mode.backend:
            raise GuestError(f"the backend was {fault['backend']}")
        comment(f"vcpus waited {histogram(stats['vcpu-latency'])}")
        comment(f"QEMU waited {histogram(stats['ram-wait-latency'])}")
        waits, put_off = stats['ram-waits'], stats['put-off']
        faults, spurious = stats['vcpu-faults'], stats['spurious-exits']
        # One that asks for ever for a page that QEMU does not find goes on in
        # the end, too: the page comes without being asked for.
        if spurious > faults:
            raise GuestError(f'a vCPU asked {spurious} times for memory that '
                             f'was there or was not found, and waited {faults} '
                             'times')
        if self.device.virtio and not put_off:
            raise GuestError('nothing was put off')
        if self.device.virtio and waits > put_off // 10:
            raise GuestError(f'QEMU waited {waits} times')
        if self.device.dma and not self.device.virtio and not waits:
            raise GuestError('QEMU never waited for memory')
        return (f'RAM waits {waits}, put off {put_off}, '
                f'vcpu faults {faults}, spurious {spurious}, '
                f"eager pages {stats['eager-pages']} in "
                f"{stats['eager-wait'] // 1000} ms")

    def finish(self) -> None:
        """The guest goes on where it is now."""
        self.source.shutdown()
        self.destination.wait_passes(PASSES)
        self.check_vhost(self.destination, True)
        if self.device.work == 'vga':
            check_screen(self.destination, self.job)
        self.destination.check()
        self.destination.shutdown()

    def run(self) -> str:
        """Do it; returns what there is to say."""
        times = [time.monotonic()]
        for step in (self.start, self.migrate):
            step()
            times.append(time.monotonic())
        counts = self.counts()
        self.finish()
        self.echo.check()
        return (f'{counts}; {times[1] - times[0]:.0f} s to start, '
                f'{times[2] - times[1]:.0f} s to migrate, '
                f'{times[2] - self.running:.0f} s of it after the switch')


def histogram(buckets: List[int]) -> str:
    """How long it took, as log2 of microseconds."""
    return ' '.join(f'<{2 << n}us:{count}'
                    for n, count in enumerate(buckets) if count)


def work() -> int:
    """All devices asked for."""
    conditions = parse_args()
    if any(DEVICES[name].vhost for name in conditions.devices):
        create_network()
    echo = Echo()
    return run_cases(list(conditions.devices), conditions,
                     lambda name, job: Oracle(conditions, name, job, echo))


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
