# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest that goes from one QEMU to the next, and what each step costs.
"""

from contextlib import ExitStack
from datetime import datetime, timezone
import os
from pathlib import Path
import re
import tempfile
from typing import (
    Any,
    Dict,
    List,
    Optional,
)

from kuf.demo import counters, network
from kuf.demo.console import Console
from kuf.demo.hop import (
    HISTORY,
    Hop,
    Link,
    Side,
)
from kuf.demo.progress import Display
from kuf.demo.scenario import MB, Scenario
from kuf.guest import backing
from kuf.guest.machine import GuestError, pauses
from kuf.modes import MODES
from kuf.paths import BUILD
from kuf.report.figures import SCHEMA


GUEST = 'guest-cloud'
DISK_MB = 4
PRIORITY = 15


class Chain:
    """The guest, and the QEMU that it is in."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, scenario: Scenario, stack: ExitStack):
        self.scenario = scenario
        self.stack = stack
        self.logs = scenario.output / 'logs'
        self.job = Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix='demo-')))
        self.display = Display(scenario.live)
        self.network = network.create_network(self.job, scenario.rtt)
        stack.callback(self.network.close)
        stack.enter_context(backing.prepared(scenario.backing, scenario.memory))
        with open(self.job / 'disk', 'wb') as disk:
            disk.truncate(DISK_MB * MB)
        # What makes a QEMU as all others are, if this process is not.
        self.ordinary = (['nice', '-n', str(PRIORITY)] if take_priority()
                         else [])
        self.sides = 0
        # The guest's working set, as it says itself.
        self.pages = 0
        self.runs: List[Dict[str, Any]] = []
        self.version = ''
        self.side = self.begin()

    def begin(self) -> Side:
        """A new guest, where it begins."""
        side = self.create_side('first', [], self.scenario.source)
        side.launch()
        self.see_version(side)
        self.wait_for_work(side)
        return side

    def see_version(self, side: Side) -> None:
        """Of what is measured, which is where the guest goes to."""
        version = side.cmd('query-version')['qemu']
        self.version = '.'.join(str(version[part])
                                for part in ('major', 'minor', 'micro'))

    def create_side(self, name: str, more: List[str],
                    qemu: Optional[Path] = None) -> Side:
        """The next QEMU, which has not been launched."""
        number = self.sides
        self.sides += 1
        name = f'{number}-{name}'
        serial = Console(self.job / f'console-{number}')
        calls = counters.UserfaultfdCalls(str(number))
        calls.start()
        self.stack.callback(calls.close)
        side = Side(name, self.job, self.logs, guest=GUEST,
                    append='guest.modules=virtio_blk,virtio_net '
                    f'guest.console=vport0p1 guest.work={self.scenario.work}'
                    f'{self.scenario.append}',
                    # The console is the first of the virtio devices, which
                    # gives /dev/vport0p1 its name.
                    args=[*serial.args(self.logs / f'{name}.console'),
                          *self.machine_args(),
                          # What the kernel has to say.
                          '-serial', f'file:{self.logs}/{name}.kernel', *more],
                    wrapper=[*calls.wrapper(), *self.network.wrapper(number),
                             *self.ordinary],
                    qemu=qemu or self.scenario.qemu, guest_console=serial,
                    userfaultfd=calls)
        self.stack.callback(side.shutdown, hard=True)
        return side

    def machine_args(self) -> List[str]:
        """The guest's hardware."""
        return ['-machine', f'q35,memory-backend={backing.RAM}', '-no-reboot',
                '-smp', str(self.scenario.vcpus),
                *backing.backing_args(self.scenario.backing,
                                      self.scenario.memory),
                '-drive',
                f'if=none,format=raw,id=disk,file={self.job}/disk',
                '-device', 'virtio-blk-pci,drive=disk',
                '-netdev', 'user,id=net',
                '-device', 'virtio-net-pci,netdev=net']

    def wait_for_work(self, side: Side) -> None:
        """
        Wait until the guest has been through all of its memory, and then as
        long as its rate before a migration is looked at.
        """
        works: Optional[float] = None
        for waited in pauses('work of the guest', 0.1):
            side.look()
            last = side.console.last()
            if not last or not last.passes:
                continue
            if works is None:
                works = last.arrival
                self.pages = int(side.console.up['pages'])
                self.display.say(f'The guest works, {waited:.0f} s after its '
                                 'start.')
            if last.arrival - works >= HISTORY:
                return

    def migrate(self, mode: str, number: int) -> None:
        """To another QEMU."""
        again = self.scenario.source and self.runs
        run: Dict[str, Any] = {'mode': mode, 'round': number}
        self.runs.append(run)
        self.display.begin(f'{mode}, round {number}')
        if again:
            self.begin_again(run)
        destination = self.create_side(mode, ['-incoming', 'defer'])
        hop = Hop(self.side, destination, MODES[mode],
                  Link(self.scenario.bandwidth * MB,
                       self.scenario.postcopy_bandwidth * MB),
                  self.network.uri(self.sides - 1), self.display.show)
        try:
            destination.launch()
            self.see_version(destination)
            run.update(hop.run(), ok=True, error=None)
        except GuestError as exc:
            raise self.failed(run, hop.phase, exc) from exc
        run['verified_pages'] = self.pages
        self.side.shutdown()
        destination.capabilities(postcopy_kvm_userfault=False)
        self.side = destination

    def begin_again(self, run: Dict[str, Any]) -> None:
        """The guest is in a QEMU that it could not have come from."""
        self.side.shutdown()
        try:
            self.side = self.begin()
        except GuestError as exc:
            raise self.failed(run, 'start', exc) from exc

    def failed(self, run: Dict[str, Any], phase: str,
               error: GuestError) -> GuestError:
        """Tell it, and what to say."""
        run.update(ok=False, error=f"{run['mode']}, round {run['round']}, "
                   f'failed in {phase}: {error}; logs are in {self.logs}')
        return GuestError(run['error'])


def take_priority() -> bool:
    """
    Go before what is looked at: between two passes of precopy there is little
    time to switch, and a small host is busy.  False without root's rights.
    """
    try:
        os.nice(-PRIORITY)
        return True
    except PermissionError:
        return False


def cpu_model() -> str:
    """The processor's name."""
    match = re.search(r'^model name\s*: (.*)$', Path('/proc/cpuinfo').read_text(
        encoding='utf-8'), re.M)
    return match[1] if match else 'unknown'


def guest_kernel() -> str:
    """The release of the guest's Linux."""
    return (BUILD / GUEST / 'kernel/release').read_text(
        encoding='utf-8').strip()


def describe(scenario: Scenario, qemu: str) -> Dict[str, Any]:
    """The head of the report, see docs/demo-report.md."""
    return {
        'schema': SCHEMA,
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
        'emulated': scenario.emulated,
        'clock': 'instructions' if scenario.icount else 'wall',
        'host': {
            'kernel': os.uname().release,
            'cpus': os.cpu_count(),
            'memory_mb': os.sysconf('SC_PHYS_PAGES')
            * os.sysconf('SC_PAGE_SIZE') // MB,
            'cpu': cpu_model(),
            'qemu': qemu,
            'source': scenario.source and str(scenario.source),
        },
        'guest': {
            'kernel': guest_kernel(), 'vcpus': scenario.vcpus,
            'memory_mb': scenario.memory, 'backing': scenario.backing,
            'threads': scenario.threads, 'own_mb': scenario.own,
            'shared_mb': scenario.shared, 'order': scenario.order,
            'write_percent': scenario.write,
            'async_page_faults': scenario.async_page_faults,
            'devices': ['virtio-blk', 'virtio-net'],
        },
        'link': {
            'bandwidth': scenario.bandwidth * MB,
            'postcopy_bandwidth': scenario.postcopy_bandwidth * MB or None,
            'rtt_us': scenario.rtt,
        },
        'modes': scenario.modes,
    }


def measure(scenario: Scenario) -> Dict[str, Any]:
    """
    Do all migrations; returns the report.

    If one fails, the report says so, and those that were to come are not done.
    """
    report: Dict[str, Any] = {}
    with ExitStack() as stack:
        chain = Chain(scenario, stack)
        try:
            for number in range(1, scenario.rounds + 1):
                for mode in scenario.order_of(number):
                    chain.migrate(mode, number)
        except GuestError as exc:
            chain.display.say(f'error: {exc}')
        report.update(describe(scenario, chain.version), runs=chain.runs)
    return report
