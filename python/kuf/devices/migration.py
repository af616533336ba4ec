# SPDX-License-Identifier: GPL-2.0-or-later
"""
A case's guest and its two sides, and the way from one to the other.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from kuf.guest.backing import fitting
from kuf.guest.devices import Device, create_disks, link_disks
from kuf.guest.worker import MEMORY, Worker, wait_for
from kuf.modes import BACKENDS, KVM_USERFAULT, Mode


KB = 1 << 10
MB = 1 << 20

# Passes of the guest's work before and after the migration.
PASSES = 2
# Bytes a second: of precopy, as long as nothing should come but what is asked
# for, and in the end.
STEADY = 16 * MB
SLOW = 64 * KB
FAST = 256 * MB
# Precopy must not come to its end.
REST = 96 * MB


@dataclass
class Conditions:
    """What all cases of a run have in common."""
    mode: Mode
    # What the guest's memory is in the host, of kuf.guest.backing.
    backing: Optional[str]
    # Trace events of the destination.
    trace: List[str]
    verbose: bool

    def __str__(self) -> str:
        return '/'.join(filter(None, [self.mode.backend, self.backing,
                                      *self.more()]))

    def more(self) -> List[str]:
        """What else is said of them."""
        return []

    def qemu(self, _side: str) -> Optional[Path]:
        """Another QEMU than build/qemu has."""
        return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command line's part of it, but for preemption."""
    parser.add_argument('--backing', choices=fitting(MEMORY),
                        help="what the guest's memory is in the host [as QEMU "
                        'makes it by itself]')
    parser.add_argument('--mode', default=KVM_USERFAULT, choices=BACKENDS,
                        help='who catches accesses to what is missing '
                        '[kvm-userfault]')


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """What is told of it."""
    parser.add_argument('--trace', metavar='PATTERN', action='append',
                        default=[],
                        help="trace events of the destination, in its log")
    parser.add_argument('--verbose', action='store_true',
                        help="show the guests' consoles")


class Migration:
    """A guest that is busy with a device, and is migrated."""

    # Bytes a second of background pages, after the switch-over.
    postcopy_bandwidth = SLOW
    # So much of memory is kept back from precopy.
    rest = REST
    # The side that goes on when the case is over.
    survivor: Optional[Worker] = None

    def __init__(self, conditions: Conditions, job: Path, device: Device,
                 there: Sequence[str] = (), wrapper: Sequence[str] = (),
                 source: Optional[Worker] = None):
        """
        @param there: more arguments of the destination
        @param wrapper: starts the destination
        @param source: runs already, such a guest
        """
        # pylint: disable=too-many-arguments
        self.job = job
        self.device = device
        self.mode = conditions.mode
        if source:
            link_disks(job, source.job)
        else:
            create_disks(job, device)
        traces = [arg for pattern in conditions.trace
                  for arg in ('-trace', pattern)]
        self.source = source or Worker('source', job, device, [],
                                       memory=conditions.backing,
                                       qemu=conditions.qemu('source'))
        self.destination = Worker('destination', job, device,
                                  ['-incoming', 'defer', *traces, *there],
                                  wrapper, conditions.backing,
                                  conditions.qemu('destination'))
        self.vms = (self.source, self.destination)

    def run(self) -> str:
        """Do it, and ask what is to be asked; returns what there is to say."""
        raise NotImplementedError

    def close(self) -> None:
        """End what still runs, and does not go on."""
        for vm in self.vms:
            if vm is not self.survivor:
                vm.shutdown(hard=True)

    def launch(self) -> None:
        """Both sides, of which one may run."""
        for vm in self.vms:
            if not vm.is_running():
                vm.launch()

    def configure(self) -> None:
        """A guest that works, capabilities and bandwidths."""
        self.source.wait_passes(PASSES)
        for vm in self.vms:
            vm.capabilities(postcopy_ram=True,
                            postcopy_preempt=self.mode.preempt)
        if self.mode.kvm_userfault:
            self.destination.capabilities(postcopy_kvm_userfault=True)
        self.source.cmd('migrate-set-parameters', max_bandwidth=STEADY,
                        max_postcopy_bandwidth=self.postcopy_bandwidth,
                        downtime_limit=1)

    def precopy(self, there: str, way: str) -> None:
        """
        Most of memory is sent.

        @param there: the destination's address
        @param way: where the source connects to
        """
        self.destination.cmd('migrate-incoming', uri=there)
        self.source.cmd('migrate', uri=way)
        for _ in wait_for('end of precopy', *self.vms):
            info = self.source.migration()
            if info.get('ram', {}).get('remaining', MEMORY * MB) < self.rest:
                break

    def slow_down(self) -> None:
        """The guest writes to much of memory again; little of that is sent."""
        self.source.cmd('migrate-set-parameters', max_bandwidth=SLOW)
        self.source.wait_passes(PASSES)

    def wait_completed(self) -> None:
        """All memory arrives."""
        for vm in self.vms:
            for _ in wait_for('end of the migration', *self.vms):
                if vm.migration().get('status') == 'completed':
                    break
