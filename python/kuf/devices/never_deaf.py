# SPDX-License-Identifier: GPL-2.0-or-later
"""
Ask a destination that waits for memory, with a link that is dead.

In the emulated host: host/run -- host/never-deaf [OPTIONS] CASE...

A Linux guest (guest) that is busy with devices is migrated by postcopy.
While most of its memory is missing and a device waits for some of it, the link
is held: nothing comes through, and nobody is told.  The guest's network gets a
flood of datagrams, into buffers that are missing.  A CASE is DEVICE/END; the
END is what happens then:

  recover         100 query-status, then migrate-pause, 100 query-status, and
                  migrate-recover; the guest goes on and never saw wrong data
  quit, sigterm, sigint
                  this command or signal ends the destination
  paused-quit, paused-sigterm
                  the same, when the link has broken and that was noticed

Commands are given in band to a monitor without out-of-band commands, and each
must be answered in 1 s.  QEMU must end in 2 s.  Both are measured in the
emulated host, by its clock, from before the command or signal is sent until
the answer is read or the process has been reaped.  The disk then has nothing
but what the guest wrote.

With --mode userfaultfd, answers that do not come and a QEMU that does not end
are only reported.  Output is TAP.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
import signal
import time
from typing import (
    Any,
    Dict,
    List,
    Optional,
    Sequence,
)

from kuf import cli
from kuf.devices import migration
from kuf.devices.cases import run_cases
from kuf.devices.migration import (
    FAST,
    PASSES,
    Conditions,
    Migration,
)
from kuf.devices.waits import TRACE, Waits
from kuf.guest.devices import (
    BRIDGE_ADDRESS,
    DEVICES,
    SLIRP_WORK,
    Device,
    create_network,
)
from kuf.guest.echo import ECHO_PORT, Echo
from kuf.guest.flood import DISCARD_PORT, Flood
from kuf.guest.machine import GuestError, pauses
from kuf.guest.monitor import Deaf
from kuf.guest.stamps import check_disk
from kuf.guest.worker import PORTS, wait_for
from kuf.link.relay import Relay
from kuf.modes import Mode
from kuf.tap import comment


PROG = 'host/never-deaf'
PORT = 9300

# Each page takes that much longer, so that a wait can be seen; in seconds.
DELAY = 0.05
# A device that has waited that long on a held link does not wait for what is
# on its way.
STUCK = 0.5
QUESTIONS = 100
# How many that are not answered are enough.
ENOUGH = 3
# QEMU has ended in that time.
END_LIMIT = 2.0
# What QEMU says when it has noticed that the link is broken.
PAUSED = 'Migration paused'
# What is not asserted has that time.
PATIENT = 30

USER = ['-netdev', 'user,id=user,hostfwd=udp:127.0.0.1:{port}-10.0.2.15:'
        f'{DISCARD_PORT}', '-device']
TAP = ['-netdev', 'tap,id=tap,ifname={side},script=no,downscript=no',
       '-device']
TAP_ADDRESS = '10.0.3.15'
BROADCAST = '10.0.3.255'


def tap_work(interface: str) -> str:
    """The guest's work on a network with a tap device."""
    return f'net.tap:{interface}:{TAP_ADDRESS}:{BRIDGE_ADDRESS}:{ECHO_PORT}'


# Devices that can give way, and then those that can't.
MACHINES: Dict[str, Device] = {
    'user': Device([*USER, 'virtio-net-pci,netdev=user'], SLIRP_WORK,
                   'virtio_net'),
    'tap': Device([*TAP, 'virtio-net-pci,netdev=tap'], tap_work('eth0'),
                  'virtio_net'),
    'virtio-blk': DEVICES['virtio-blk'],
    'virtio-scsi': DEVICES['virtio-scsi'],
    'virtio': Device([*USER, 'virtio-net-pci,netdev=user,addr=5',
                      *TAP, 'virtio-net-pci,netdev=tap,addr=6',
                      *DEVICES['virtio-blk'].args],
                     f"{SLIRP_WORK},{tap_work('eth1')},disk:vda",
                     'virtio_net,virtio_blk'),
    'ahci': DEVICES['ahci'],
    'ide-dma': DEVICES['ide-dma'],
    'usb-storage': DEVICES['usb-storage'],
    'e1000': Device([*USER, 'e1000,netdev=user'], SLIRP_WORK, 'e1000'),
}
GIVE_WAY = ('user', 'tap', 'virtio-blk', 'virtio-scsi', 'virtio')
# Commands that are answered where devices give way, beside those for recovery.
COMMON: Dict[str, Dict[str, Any]] = {
    'query-block': {},
    'query-cpus-fast': {},
    'query-named-block-nodes': {},
    'query-pci': {},
    'qom-list': {'path': '/machine'},
    'human-monitor-command': {'command_line': 'info network'},
}
ENDS = ('recover', 'quit', 'sigterm', 'sigint', 'paused-quit',
        'paused-sigterm')


@dataclass
class DeafConditions(Conditions):
    """What is asked."""
    cases: Sequence[str]


class NeverDeaf(Migration):
    """One case, from start to end."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, conditions: Conditions, name: str, job: Path,
                 echo: Echo):
        self.name, self.end = name.split('/')
        super().__init__(conditions, job, MACHINES[self.name],
                         TRACE if conditions.mode.kvm_userfault else ())
        self.echo = echo
        self.waits: Optional[Waits] = None
        self.flood: Optional[Flood] = None
        self.relays: List[Relay] = []
        self.port = PORT
        self.said: List[str] = []

    def say(self, text: str) -> None:
        """Something for the end, and for those who watch."""
        comment(text)
        self.said.append(text)

    # --- Up to the dead link ---

    def start(self) -> None:
        """Both sides, and a guest that works."""
        self.launch()
        for vm in self.vms:
            vm.monitor()
        self.configure()
        if self.mode.kvm_userfault:
            self.waits = Waits(self.destination.log_path,
                               self.destination.vcpu_threads())

    @property
    def relay(self) -> Relay:
        """The link."""
        return self.relays[-1]

    def link(self) -> str:
        """A new link, and the destination's address."""
        self.port += 1
        self.relays.append(Relay(self.port, whole=False))
        return f'tcp:127.0.0.1:{self.port}'

    def migrate(self) -> None:
        """Most of memory is missing, and comes slowly."""
        there = self.link()
        self.precopy(there, f'tcp:127.0.0.1:{self.relay.port}')
        self.slow_down()
        self.source.cmd('migrate-start-postcopy')
        for _ in wait_for('guest in the destination', *self.vms):
            status = self.destination.monitor().ask('query-status', PATIENT)
            if status.value['status'] == 'running':
                break

    def waiting(self) -> int:
        """How many pages devices wait for."""
        return len(self.waits.look()) if self.waits else 0

    def hold(self) -> None:
        """The link dies when a device waits that begins by itself."""
        if self.waits and self.device.work.find('disk:') >= 0:
            self.hold_waiting()
        elif 'net' in self.device.work:
            received = self.echo.received
            for _ in wait_for("guest's first datagram", *self.vms):
                if self.echo.received > received:
                    break
            self.relay.hold()
        else:
            time.sleep(2)
            self.relay.hold()

    def hold_waiting(self) -> None:
        """A disk waits, and not for what is on its way."""
        self.relay.slow(DELAY)
        for _ in pauses('disk that waits for memory', 0.002):
            if not self.waiting():
                continue
            self.relay.hold()
            time.sleep(STUCK)
            if self.waiting():
                return
            self.relay.release()
            self.relay.slow(DELAY)

    def start_flood(self) -> None:
        """Datagrams for all networks that the guest has."""
        targets = []
        if 'net:' in self.device.work:
            targets.append(('127.0.0.1', PORTS['destination']))
        if 'net.tap:' in self.device.work:
            targets.append((BROADCAST, DISCARD_PORT))
        if not targets:
            return
        before = self.waiting()
        self.flood = Flood(targets)
        if before or not self.waits:
            time.sleep(1)
            return
        for _ in pauses('network that waits for memory', 0.05):
            if self.waiting():
                break

    # --- The dead link ---

    def questions(self, when: str) -> None:
        """A command that is asked often, in time each time."""
        times: List[float] = []
        deaf: List[str] = []
        for _ in range(QUESTIONS):
            try:
                answer = self.destination.monitor().ask('query-status')
                times.append(answer.seconds)
            except Deaf as exc:
                deaf.append(str(exc))
                if len(deaf) == ENOUGH:
                    break
            time.sleep(0.01)
        slowest = f', slowest {max(times) * 1000:.0f} ms' if times else ''
        self.say(f'{when}: {len(times)} of {len(times) + len(deaf)} answered'
                 f'{slowest}, {self.waiting()} pages waited for')
        if deaf:
            raise Deaf(f'{when}: {deaf[0]}')
        self.check_waiting()

    def check_waiting(self) -> None:
        """It would be no test without."""
        if self.waits and not self.waiting():
            raise GuestError('no device waits, so nothing was tested')

    def commands(self, commands: Dict[str, Dict[str, Any]]) -> None:
        """Commands that are answered in time."""
        monitor = self.destination.monitor()
        slowest = max((monitor.ask(name, **arguments).seconds, name)
                      for name, arguments in commands.items())
        comment(f"slowest '{slowest[1]}', {slowest[0] * 1000:.0f} ms")

    def dead_link(self) -> None:
        """What can be asked while the link is held."""
        self.questions('link held')
        self.commands({'query-migrate': {}})
        if self.name in GIVE_WAY:
            self.commands(COMMON)

    def pause(self) -> None:
        """Both sides are told that the link is dead."""
        for vm in (self.destination, self.source):
            vm.monitor().ask('migrate-pause')
        self.relay.close()
        for vm in (self.destination, self.source):
            for _ in pauses(f'pause of the {vm.side}', 0.05):
                status = vm.monitor().ask('query-migrate').value['status']
                if status == 'postcopy-paused':
                    break
        self.questions('paused')
        if self.name in GIVE_WAY:
            self.commands(COMMON)

    def break_link(self) -> None:
        """It breaks, which the destination notices by itself."""
        self.relay.cut()
        for _ in wait_for('pause', self.destination):
            log = self.destination.log_path.read_text(errors='replace')
            if PAUSED in log:
                break

    def recover(self) -> None:
        """A new link, and the guest goes on."""
        uri = self.link()
        took = self.destination.monitor().ask('migrate-recover', uri=uri)
        self.say(f'migrate-recover: {took.seconds * 1000:.0f} ms')
        self.source.cmd('migrate-set-parameters', max_postcopy_bandwidth=FAST)
        self.source.cmd('migrate', uri=f'tcp:127.0.0.1:{self.relay.port}',
                        resume=True)
        self.wait_completed()
        stats = self.destination.migration().get('postcopy-fault', {})
        stats = stats.get('kvm-userfault', {})
        self.say(f"RAM waits {stats.get('ram-waits', 'not counted')}, "
                 f"elements put off {stats.get('put-off', 'not counted')}")
        if self.flood:
            self.say(f'{self.flood.sent} datagrams')
            self.flood.close()
            self.flood = None
        self.destination.wait_passes(PASSES)
        self.destination.check()
        self.destination.shutdown()
        self.source.shutdown()

    def end_now(self) -> None:
        """The destination ends, with all that wait."""
        self.check_waiting()
        how = self.end.split('-')[-1]
        start = time.monotonic()
        if how == 'quit':
            self.destination.monitor().send('quit', {})
        else:
            self.destination.signal(getattr(signal, how.upper()))
        took = self.destination.wait_end(10) - start
        if self.destination.is_running():
            raise Deaf(f'{how} did not end the destination in {took:.1f} s, '
                       f'and {END_LIMIT:g} s is the limit')
        self.say(f'{how}: {took * 1000:.0f} ms')
        if took >= END_LIMIT:
            raise Deaf(f'{how} ended the destination after {took:.1f} s, '
                       f'and {END_LIMIT:g} s is the limit')
        if self.destination.exitcode():
            raise GuestError(f'{how} ended the destination with '
                             f'{self.destination.exit_reason()}')

    # --- All of it ---

    def ask(self) -> None:
        """What the case is about."""
        if self.end == 'recover':
            self.dead_link()
            self.pause()
            self.recover()
            return
        if self.end.startswith('paused'):
            self.break_link()
        self.end_now()

    def run(self) -> str:
        """Do it; returns what there is to say."""
        for step in (self.start, self.migrate, self.hold, self.start_flood):
            began = time.monotonic()
            step()
            comment(f'{step.__name__}: {time.monotonic() - began:.0f} s')
        try:
            self.ask()
        except Deaf as exc:
            if self.mode.kvm_userfault:
                raise
            return f'NOT ASSERTED with userfaultfd: {exc}'
        if 'disk:' in self.device.work:
            comment(f"{check_disk(self.job / 'disk')} pages of the disk")
        self.echo.check()
        return '; '.join(self.said)

    def close(self) -> None:
        """End what still runs."""
        if self.flood:
            self.flood.close()
        for relay in self.relays:
            relay.close()
        super().close()


def case(text: str) -> str:
    """A case of the command line."""
    device, _, end = text.partition('/')
    end = end or 'recover'
    if device not in MACHINES or end not in ENDS:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not DEVICE/END with a DEVICE of "
            f"{', '.join(MACHINES)} and an END of {', '.join(ENDS)}")
    return f'{device}/{end}'


def parse_args() -> DeafConditions:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    migration.add_options(parser)
    migration.add_log_options(parser)
    parser.add_argument('case', metavar='CASE', nargs='+', type=case,
                        help='DEVICE/END [DEVICE/recover]; devices are '
                        f"{', '.join(MACHINES)}")
    args = parser.parse_args()
    return DeafConditions(Mode(args.mode, True), args.backing, args.trace,
                          args.verbose, args.case)


def work() -> int:
    """All cases asked for."""
    conditions = parse_args()
    if any('ifname' in ' '.join(MACHINES[name.split('/')[0]].args)
           for name in conditions.cases):
        create_network()
    echo = Echo()
    return run_cases(list(conditions.cases), conditions,
                     lambda name, job: NeverDeaf(conditions, name, job, echo))


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
