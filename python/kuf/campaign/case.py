# SPDX-License-Identifier: GPL-2.0-or-later
"""
One migration of a campaign, from start to end.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import which
import subprocess
import time
from typing import List, Optional

from kuf.campaign.faults import FAULTS, PLUGGED
from kuf.campaign.plan import PROCESSORS, Plan
from kuf.devices.link_cuts import (
    SOURCE_RUNS,
    LinkConditions,
    LinkCut,
    View,
)
from kuf.guest.devices import DEVICES, create_network
from kuf.guest.machine import GuestError
from kuf.guest.stamps import check_disk
from kuf.guest.worker import Worker
from kuf.link.cuts import Point
from kuf.link.relay import Relay, Watch
from kuf.tap import comment


ORACLE = ['-global', 'migration.x-postcopy-kvm-userfault-oracle=on']
# A key that both sides know.
TLS_KEY = 'qemu:51ab3e1cd8b1e2a1b9c5e0d1f3a2b4c6\n'

# The link holds.
WHOLE = Point('nowhere', lambda _relay, _mark: None)


def _arguments(plan: Plan) -> List[str]:
    """QEMU's, for both sides."""
    arguments = ['-smp', str(plan.vcpus)]
    if flags := PROCESSORS[plan.processor]:
        arguments += ['-cpu', f'host,-tsc-deadline,{flags}']
    return arguments


def stacks(vm: Worker) -> str:
    """What all threads of a side that runs are doing, if gdb is there."""
    if not vm.is_running() or not which('gdb'):
        return ''
    done = subprocess.run(
        ['gdb', '-q', '-nx', '-batch', '-p', str(vm.get_pid()),
         '-ex', 'thread apply all backtrace 24'], check=False, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, errors='replace')
    return f'{vm.side}:\n{done.stdout}'


@dataclass
class DrawnConditions(LinkConditions):
    """What was drawn, and may be of another QEMU."""
    program: Optional[Path] = None

    def qemu(self, _side: str) -> Optional[Path]:
        return self.program


class Drawn(LinkCut):
    """What was drawn, as it happens."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, plan: Plan, job: Path, verbose: bool = False,
                 program: Optional[Path] = None,
                 source: Optional[Worker] = None):
        """
        @param program: another QEMU than build/qemu has
        @param source: runs already, such a guest
        """
        # pylint: disable=too-many-arguments
        conditions = DrawnConditions(
            plan.mode, plan.backing, [], verbose, plan.device, plan.oob, {},
            program)
        super().__init__(conditions, plan.point or WHOLE, job,
                         _arguments(plan), ORACLE if plan.oracle else [],
                         source)
        self.plan = plan
        if not plan.point:
            self.breaks = 0
        self.encrypted = plan.tls
        self.postcopy_bandwidth = plan.bandwidth
        self.rest = plan.rest
        self.to_come = list(plan.faults)
        self.switched = 0.0

    def start(self) -> None:
        if DEVICES[self.plan.device].vhost:
            create_network()
        super().start()
        self.destination.capabilities(postcopy_blocktime=self.plan.blocktime)

    def encrypt(self) -> str:
        """Both sides have a key; returns what they call it."""
        name = f'tls-{self.plan.number}'
        (self.job / 'keys.psk').write_text(TLS_KEY, encoding='ascii')
        for vm, endpoint in zip(self.vms, ('client', 'server')):
            vm.cmd('object-add', qom_type='tls-creds-psk', id=name,
                   dir=str(self.job), endpoint=endpoint)
        return name

    def configure(self) -> None:
        super().configure()
        name = self.encrypt() if self.plan.tls else ''
        for vm in self.vms:
            vm.cmd('migrate-set-parameters', tls_creds=name)

    def link(self, watch: Optional[Watch]) -> Relay:
        relay = super().link(watch)
        if self.plan.delay:
            relay.slow(self.plan.delay)
        return relay

    def postcopy(self, relay: Relay) -> None:
        """The guest moves, and all goes its way."""
        self.source.cmd('migrate-start-postcopy')
        self.switched = time.monotonic()

    def act(self, since: float, source: View, destination: View) -> None:
        """What is due happens; then what an administrator does."""
        if self.relay and self.relay.wrong:
            raise GuestError(f'the stream is wrong: {self.relay.wrong}')
        for vm in self.vms:
            if vm.is_running():
                vm.check()
        while self.to_come and self.due():
            fault = self.to_come.pop(0)
            comment(f'{fault.name}, {fault.length:.2f} s')
            FAULTS[fault.name](self, fault.length)
            return
        super().act(since, source, destination)

    def due(self) -> bool:
        """Is it time for the next one?"""
        return time.monotonic() - self.switched > self.to_come[0].after

    def run(self) -> str:
        try:
            outcome = super().run()
        except GuestError:
            for vm in self.vms:
                comment(stacks(vm))
            raise
        device = DEVICES[self.plan.device]
        if device.work.startswith('disk') and not device.template:
            check_disk(self.job / 'disk')
        self.survivor = self.next_source(outcome)
        return outcome

    def next_source(self, outcome: str) -> Optional[Worker]:
        """
        Where the guest is, unless the next destination would not be as it is:
        have a device that was plugged, or a network of its own.
        """
        vm = self.source if outcome == SOURCE_RUNS else self.destination
        plugged = [child['name'] for child in
                   vm.cmd('qom-list', path='/machine/peripheral')]
        if PLUGGED in plugged or DEVICES[self.plan.device].vhost:
            return None
        return vm
