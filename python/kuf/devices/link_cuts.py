# SPDX-License-Identifier: GPL-2.0-or-later
"""
Cut the link between the two sides of a postcopy migration.

In the emulated host: host/run -- host/link-cuts [OPTIONS] [POINT...]

At each POINT between the switch to postcopy and the end, the link breaks under
a Linux guest (guest) that is busy with memory, a display and a disk and
checks all that it reads.  Then this program does what an administrator can do
with a monitor without out-of-band commands: it waits until both sides have
noticed, tells them if they can't notice, and recovers the migration over a new
link.

There are two ways for that to end well, and the guest must go on in both:

  the migration is recovered, or is over, and only the destination runs
  the source runs on, and the destination never will

All else is a failure: a VM that is lost, one that runs on both sides, and a
side that does not answer.  With --mode userfaultfd, some points are only
reported: QEMU has no answer for them there.  Output is TAP.
"""

from dataclasses import dataclass
from pathlib import Path
import signal
import time
from typing import (
    Dict,
    List,
    Optional,
    Sequence,
)

from kuf import cli
from kuf.devices.cases import run_cases
from kuf.devices.link_options import Named
from kuf.devices.migration import (
    MB,
    PASSES,
    Conditions,
    Migration,
)
from kuf.guest.backing import huge_blocks
from kuf.guest.devices import DEVICES, Device
from kuf.guest.echo import Echo
from kuf.guest.machine import GuestError, pauses
from kuf.guest.monitor import Deaf
from kuf.guest.worker import Worker
from kuf.link.cuts import GROUPS, Point, drawn
from kuf.link.relay import Relay, Watch
from kuf.modes import Mode
from kuf.tap import comment


PROG = 'host/link-cuts'
PORT = 9200
# Bytes a second of background pages.
BANDWIDTH = 8 * MB

# In seconds: a side has noticed that the link is broken, or is told;
NOTICE = 10
# it has answered, or is deaf; and what it says of a broken link will stay as it
# is.
ANSWER = 10
SETTLED = 30

PAUSED = 'postcopy-paused'
FAILED = ('failed', 'cancelled')
DONE = (PAUSED, 'completed', *FAILED)
# What QEMU says of a guest whose processor can't go on.
DEAD = 'internal-error'

# An outcome.
SOURCE_RUNS = 'the source runs on'


class Lost(GuestError):
    """The third outcome."""


class NotReached(GuestError):
    """The migration did not come to where something was to be done."""


class View:
    """What a side says of itself."""

    def __init__(self, vm: Worker, oob: bool):
        self.ended = not vm.is_running()
        self.migration = 'ended'
        self.status = 'ended'
        if self.ended:
            return
        monitor = vm.monitor(oob)
        try:
            answer = monitor.ask('query-migrate', ANSWER).value
            self.migration = answer.get('status', 'none')
            self.status = monitor.ask('query-status', ANSWER).value['status']
        except (GuestError, OSError):
            vm.wait_end()
            if vm.is_running():
                raise
            self.ended = True
            self.migration = self.status = 'ended'

    @property
    def runs(self) -> bool:
        """Does the guest run there?"""
        return self.status == 'running'

    def __str__(self) -> str:
        if self.ended:
            return 'has ended'
        return f"is '{self.status}' and says '{self.migration}'"


@dataclass
class LinkConditions(Conditions):
    """What is asked at all points."""
    # The guest's device beside the display.
    device: str
    # Monitors have commands out-of-band.
    oob: bool
    points: Dict[str, Point]

    def more(self) -> List[str]:
        return [] if self.mode.preempt else ['no-preempt']


def shown(device: Device, more: Sequence[str]) -> Device:
    """With a display, if the guest can draw there: not under UEFI."""
    if device.smm:
        return device._replace(args=[*device.args, *more])
    return device._replace(
        args=[*device.args, '-device', 'VGA', *more],
        work=','.join(filter(None, ['vga', device.work])))


class LinkCut(Migration):
    """One point, from start to end."""

    # Nobody on the way can read it.
    encrypted = False

    # pylint: disable=too-many-instance-attributes
    def __init__(self, conditions: LinkConditions, point: Point, job: Path,
                 more: Sequence[str] = (), there: Sequence[str] = (),
                 source: Optional[Worker] = None):
        """
        @param more: more arguments of both sides
        @param there: and of the destination
        @param source: runs already, with those arguments
        """
        # pylint: disable=too-many-arguments
        super().__init__(conditions, job, shown(DEVICES[conditions.device],
                                                more), there, source=source)
        self.point = point
        if not point.asked:
            self.postcopy_bandwidth = BANDWIDTH
        self.backing = conditions.backing
        self.oob = conditions.oob
        self.relay: Optional[Relay] = None
        self.port = PORT
        self.recoveries = 0
        # So often it breaks, at most.
        self.breaks = 1 + bool(point.again)
        self.kill_source = False
        self.began = time.monotonic()
        self.told: Dict[Worker, bool] = {}

    # --- Up to the cut ---

    def start(self) -> None:
        """Both sides, and a guest that works."""
        self.launch()
        for vm in self.vms:
            vm.monitor(self.oob)
        self.configure()

    def link(self, watch: Optional[Watch]) -> Relay:
        """A new link to a new port of the destination."""
        self.port += 1
        self.told = {vm: False for vm in self.vms}
        point = self.point
        first = not self.recoveries
        self.relay = Relay(self.port, watch=watch, whole=first,
                           reset=point.reset, silent=point.silent and first,
                           listening=point.listening and first,
                           first=point.first,
                           huge=huge_blocks(self.backing),
                           encrypted=self.encrypted)
        return self.relay

    def postcopy(self, relay: Relay) -> None:
        """Switch, and wait for the cut; monitors may be deaf meanwhile."""
        self.source.cmd('migrate-start-postcopy')
        for _ in pauses('cut', 0.05):
            if relay.wrong:
                raise GuestError(f'the stream is wrong: {relay.wrong}')
            if relay.stopped.is_set():
                break
            if relay.over:
                raise NotReached('the migration did not come to this point')
            if relay.cut_at:
                # It is about to be cut, and the destination may end of it.
                continue
            for vm in self.vms:
                vm.check()
        comment(f'cut: {relay.cut_at}; {time.monotonic() - self.began:.0f} s')

    # --- What becomes of it ---

    def settle(self) -> str:
        """Wait for one of the two outcomes, and do what is needed for it."""
        changed = time.monotonic()
        before = ''
        for _ in pauses('outcome', 0.1):
            views = [View(vm, self.oob) for vm in self.vms]
            if outcome := self.outcome(*views):
                return outcome
            now = ', '.join(f'{vm.side} {view}'
                            for vm, view in zip(self.vms, views))
            if now != before:
                comment(now)
                before, changed = now, time.monotonic()
            self.act(time.monotonic() - changed, *views)
            stopped = self.relay and self.relay.stopped.is_set()
            if stopped and time.monotonic() - changed > SETTLED:
                raise Lost(f'{now}: that is neither recovered nor does the '
                           f'source run on; {self.last_words()}')
        raise AssertionError('pauses() ends with an error')

    def last_words(self) -> str:
        """What both logs end with."""
        return '; '.join(f"the {vm.side}'s log ends with: {vm.last_words()}"
                         for vm in self.vms)

    def outcome(self, source: View, destination: View) -> Optional[str]:
        """One of the two, if it has come to that."""
        if source.ended:
            raise Lost(f'the source has ended, {self.source.exit_reason()}')
        if DEAD in (source.status, destination.status):
            raise Lost(f'the guest has died: source {source}, destination '
                       f'{destination}')
        if source.runs and destination.runs:
            raise Lost(f'the guest runs on both sides: source {source}, '
                       f'destination {destination}')
        if source.migration in FAILED and source.runs:
            return self.source_runs(destination)
        if destination.migration == 'completed' and destination.runs:
            return self.destination_runs(source)
        return None

    def source_runs(self, destination: View) -> str:
        """The source goes on, alone."""
        if not destination.ended:
            comment(f'the destination {destination}')
        self.source.wait_passes(PASSES)
        if (now := View(self.destination, self.oob)).runs:
            raise Lost(f'the guest runs on both sides: destination {now}')
        return SOURCE_RUNS

    def destination_runs(self, source: View) -> str:
        """The migration is over, and the source of no use any more."""
        if self.kill_source:
            self.source.signal(signal.SIGKILL)
            self.source.wait_end()
        for _ in pauses('end of the migration', 0.1):
            self.destination.wait_passes(PASSES)
            source = View(self.source, self.oob)
            if source.runs:
                raise Lost(f'the guest runs on both sides: source {source}')
            if source.migration not in ('postcopy-active',
                                        'postcopy-recover'):
                break
        how = 'recovered' if self.recoveries else 'over'
        return f'{how}, recoveries: {self.recoveries}, source {source}'

    def act(self, since: float, source: View, destination: View) -> None:
        """What an administrator does."""
        if source.migration == destination.migration == PAUSED:
            self.recover()
            return
        if not self.relay or not self.relay.stopped.is_set():
            return
        for vm, view in zip(self.vms, (source, destination)):
            if view.migration in DONE or view.ended or self.told[vm]:
                continue
            if self.point.silent or since > NOTICE:
                self.tell(vm, view)
        if all(self.told.values()):
            self.relay.cut()

    def tell(self, vm: Worker, view: View) -> None:
        """The link is broken, for a side that does not know."""
        self.told[vm] = True
        commands = ['migrate-pause']
        if vm is self.source:
            commands.append('migrate_cancel')
        elif view.migration == 'active':
            # It has not got as far as to have something to lose.
            commands.append('quit')
        for command in commands:
            try:
                vm.monitor().ask(command, ANSWER)
                comment(f'{vm.side}: {command}')
                return
            except Deaf:
                raise
            except GuestError as exc:
                comment(str(exc))

    def recover(self) -> None:
        """A new link."""
        if self.relay:
            self.relay.close()
        again = self.point.again if not self.recoveries else None
        self.recoveries += 1
        relay = self.link(again)
        if self.point.asked:
            self.source.monitor().ask('migrate-set-parameters', ANSWER,
                                      max_postcopy_bandwidth=BANDWIDTH)
        self.destination.monitor().ask('migrate-recover', ANSWER,
                                       uri=f'tcp:127.0.0.1:{self.port}')
        self.source.monitor().ask('migrate', ANSWER, resume=True,
                                  uri=f'tcp:127.0.0.1:{relay.port}')
        comment('recovery')

    def run(self) -> str:
        try:
            return self.go_through()
        except NotReached as exc:
            if self.point.sure:
                raise
            return f'NOT REACHED: {exc}'

    def go_through(self) -> str:
        """Do it; returns what there is to say."""
        self.start()
        relay = self.link(self.point.where)
        self.precopy(f'tcp:127.0.0.1:{self.port}',
                     f'tcp:127.0.0.1:{relay.port}')
        self.postcopy(relay)
        try:
            outcome = self.settle()
        except (Lost, Deaf) as exc:
            weak = self.point.weak or isinstance(exc, Deaf)
            if self.mode.kvm_userfault or not weak:
                raise
            return f'NOT ASSERTED with userfaultfd: {exc}'
        for vm in self.vms:
            if vm.is_running():
                vm.check()
        return outcome

    def close(self) -> None:
        """End what still runs."""
        if self.relay:
            self.relay.close()
        super().close()


def describe(point: Point) -> str:
    """How the link is cut there."""
    how = [point.what]
    how += ['connections are reset'] if point.reset else []
    how += ['nobody is told'] if point.silent else []
    how += [f'{point.first.value} first'] if point.first else []
    return '; '.join(how)


def parse_args() -> LinkConditions:
    """The command line."""
    named = Named('point', GROUPS, describe)
    parser = named.parser(PROG, __doc__)
    parser.add_argument('--oob', action='store_true',
                        help='give what can be given out-of-band in this way')
    parser.add_argument('--draw', metavar='N', type=int, default=0,
                        help='cut at N points that are drawn, too')
    parser.add_argument('--seed', metavar='S', type=int, default=0,
                        help='draw other ones; the same for the same S [0]')
    args = parser.parse_args()
    mode = Mode(args.mode, args.preempt)
    points = {**named.asked(parser, args.names),
              **all_drawn(args.seed, args.draw)}
    return LinkConditions(mode, args.backing, args.trace, args.verbose,
                          args.device, args.oob,
                          possible(points or named.all, mode))


def all_drawn(seed: int, count: int) -> Dict[str, Point]:
    """Points that nobody has chosen."""
    points = {f'drawn-{seed}-{number}': drawn(seed, number)
              for number in range(count)}
    for name, point in points.items():
        comment(f'{name}: {point.what}')
    return points


def possible(points: Dict[str, Point], mode: Mode) -> Dict[str, Point]:
    """Those that there are in a mode."""
    return {name: point for name, point in points.items()
            if (mode.preempt or not point.first)
            and (mode.kvm_userfault or not point.commits)}


def work() -> int:
    """All points asked for."""
    conditions = parse_args()
    points = conditions.points
    echo = Echo()
    status = run_cases(list(points), conditions,
                       lambda name, job: LinkCut(conditions, points[name], job))
    echo.check()
    return status


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
