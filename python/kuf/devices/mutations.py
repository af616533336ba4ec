# SPDX-License-Identifier: GPL-2.0-or-later
"""
Falsify the stream of a postcopy migration.

In the emulated host: host/run -- host/mutate [OPTIONS] [MUTATION...]

From the switch to postcopy on, one thing that goes over the link is not as it
was sent: a bit is another one, something does not come, comes twice, too early
or too late, or is foreign to this place.  That happens to a Linux guest (guest)
that is busy with memory, a display and a disk and checks all that it reads.
What it happens to is drawn; it is the same for the same seed, as far as what
guests ask for is.

QEMU may fail then.  These are the ways to do so:

  the migration completes, since it did not matter or was recovered
  the source runs on, and the destination never will
  the destination has ended, with an error
  the migration is paused or has failed, with an error

All else is wrong: a signal, a report of AddressSanitizer, a monitor that does
not answer, a migration that does not come to an end although both sides are
told that the link is broken, a guest that has wrong memory, or one that runs on
both sides.

Nobody who gets the stream can notice that the contents of a page are others,
for there is no checksum.  So that is not among the mutations, nor is all else
that makes another right stream of it; see kuf.link.mutations.

With --mode userfaultfd, what is wrong is only reported.  Output is TAP.
"""

from dataclasses import dataclass
import os
from pathlib import Path
import random
import re
import time
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf import cli
from kuf.devices.cases import run_cases
from kuf.devices.link_cuts import (
    ANSWER,
    FAILED,
    PAUSED,
    SETTLED,
    LinkConditions,
    LinkCut,
    Lost,
    NotReached,
    View,
)
from kuf.devices.link_options import Named
from kuf.devices.migration import MB
from kuf.guest.backing import huge_blocks
from kuf.guest.machine import GuestError, pauses
from kuf.guest.monitor import Deaf
from kuf.guest.stamps import check_disk
from kuf.guest.worker import Worker
from kuf.link.cuts import Point, missing
from kuf.link.mutations import (
    GROUPS,
    MUTATIONS,
    Mutation,
    Mutator,
    drawn,
)
from kuf.link.relay import Relay, Watch
from kuf.link.stream import Memory
from kuf.modes import Mode
from kuf.paths import BUILD, require
from kuf.tap import comment


PROG = 'host/mutate'

ASAN_BUILD = BUILD / 'qemu-asan'
# Coroutines have stacks of their own.
ASAN_OPTIONS = 'abort_on_error=1:detect_leaks=0:' \
    'detect_stack_use_after_return=0'
REPORT = re.compile(
    r'^.*(AddressSanitizer|runtime error|Assertion .*failed).*$', re.M)
# What QEMU says of any link that breaks.
NOISE = re.compile('Detected IO failure|Unable to shutdown socket')

# The guest's memory comes before what is in other blocks; in bytes.
BEHIND = 8 * MB
# What is tried, at most.
RECOVERIES = 3
# QEMU has ended when it was told to, in seconds.
QUIT = 60
OVER = (PAUSED, 'completed', *FAILED)


class Case(NamedTuple):
    """A mutation, and what is drawn for it."""
    name: str
    mutation: Mutation
    seed: str
    drawn: bool = False


@dataclass
class MutationConditions(LinkConditions):
    """What all cases have in common."""
    cases: Dict[str, Case]
    # Sides that are built for AddressSanitizer.
    asan: List[str]

    def more(self) -> List[str]:
        return [*super().more(), *(['asan'] if self.asan else [])]

    def qemu(self, side: str) -> Optional[Path]:
        if side not in self.asan:
            return None
        return ASAN_BUILD / 'qemu-system-x86_64'


class MutatedStream(LinkCut):
    """One mutation, from start to end."""

    def __init__(self, conditions: MutationConditions, case: Case, job: Path):
        self.case = case
        if case.mutation.others:
            self.rest = BEHIND
        rng = random.Random(case.seed)
        nowhere: Watch = lambda relay, mark: None
        where = missing(rng.uniform(0.2, 0.9)) if case.mutation.recovery \
            else nowhere
        super().__init__(conditions, Point(case.mutation.what, where,
                                           sure=not case.drawn), job)
        self.mutator: Optional[Mutator] = None
        self.memory: Optional[Memory] = None
        # Why nothing more is tried.
        self.refused = ''

    # --- The link ---

    def link(self, watch: Optional[Watch]) -> Relay:
        recovery = self.case.mutation.recovery
        if self.mutator or self.recoveries != int(recovery):
            relay = super().link(watch)
            self.memory = relay.memory
            return relay
        self.port += 1
        self.told = {vm: False for vm in self.vms}
        self.memory = self.memory or Memory(huge_blocks(self.backing))
        self.mutator = Mutator(self.case.mutation, self.case.seed, self.memory)
        self.relay = Relay(self.port, watch=watch or self.point.where,
                           whole=not recovery, memory=self.memory,
                           mutator=self.mutator)
        return self.relay

    def postcopy(self, relay: Relay) -> None:
        """Switch, and wait until it was done; all can happen after that."""
        self.source.cmd('migrate-start-postcopy')
        for _ in pauses('mutation', 0.05):
            try:
                if relay.wrong:
                    raise GuestError(f'the stream is wrong: {relay.wrong}')
                if relay.over:
                    raise NotReached('the migration did not come to this '
                                     'place')
                for vm in self.vms:
                    vm.check()
            except GuestError:
                if not relay.stopped.is_set():
                    raise
            if relay.stopped.is_set():
                break
        self.tell_place()

    def tell_place(self) -> None:
        """What was done."""
        took = time.monotonic() - self.began
        if self.mutator and self.mutator.done_at:
            comment(f'{self.mutator.done_at}; {took:.0f} s')
        elif self.relay:
            comment(f'cut: {self.relay.cut_at}; {took:.0f} s')

    # --- What becomes of it ---

    def settle(self) -> str:
        """Wait for one of the outcomes, and do what is needed for it."""
        changed = time.monotonic()
        before = ('', 0)
        for _ in pauses('outcome', 0.1):
            self.check_sides()
            views = [View(vm, self.oob) for vm in self.vms]
            if outcome := self.outcome(*views):
                return outcome
            now = self.state(*views)
            if now[0] != before[0]:
                comment(now[0])
            if now != before:
                before, changed = now, time.monotonic()
            since = time.monotonic() - changed
            self.act(since, *views)
            if since > SETTLED:
                return self.failure(*views)
        raise AssertionError('pauses() ends with an error')

    def state(self, *views: View) -> 'tuple[str, int]':
        """
        Who says what, and how many pages are missing.  Bytes are no progress: a
        source that waits for the destination sends sections with nothing in
        them.
        """
        return (', '.join(f'{vm.side} {view}'
                          for vm, view in zip(self.vms, views)),
                self.memory.missing if self.memory else 0)

    def check_sides(self) -> None:
        """What must never be."""
        for vm in self.vms:
            self.check_side(vm)

    @staticmethod
    def check_side(vm: Worker) -> None:
        """The same, of one side."""
        if report := REPORT.search(vm.log_path.read_text(errors='replace')):
            vm.wait_end(30)
            raise Lost(f'the {vm.side}: {report[0].strip()}')
        if not vm.is_running() and (vm.exitcode() or 0) < 0:
            raise Lost(f'the {vm.side} has ended, {vm.exit_reason()}')
        if wrong := re.search(r'^.*(WRONG|Kernel panic|BUG:|I/O error).*$',
                              vm.console(), re.M):
            raise Lost(f'the guest in the {vm.side} says: {wrong[0].strip()}')

    def outcome(self, source: View, destination: View) -> Optional[str]:
        if outcome := super().outcome(source, destination):
            return outcome
        if not destination.ended:
            return self.refused if self.refused else None
        if self.relay:
            # As it is if a machine's process has ended.
            self.relay.cut()
        return self.failure(source, destination) \
            if source.migration in OVER else None

    def failure(self, source: View, destination: View) -> str:
        """The guest runs nowhere; it must have been said why."""
        state = self.state(source, destination)[0]
        words = self.last_words()
        if destination.ended and not self.destination.exitcode() and \
                not self.told[self.destination]:
            raise Lost(f'{state}: the destination has ended without an error;'
                       f' {words}')
        if not destination.ended and not any(
                view.migration in (PAUSED, *FAILED)
                for view in (source, destination)):
            raise Lost(f'{state}: that is no end; {words}')
        return f'failed: {state}; {words}'

    def last_words(self) -> str:
        """What both logs say last."""
        return '; '.join(f'{vm.side}: {self.error(vm)}' for vm in self.vms)

    @staticmethod
    def error(vm: Worker) -> str:
        """What QEMU has said of what was wrong."""
        lines = [line.split(': ', 1)[-1]
                 for line in vm.log_path.read_text(
                     errors='replace').splitlines()
                 if line.startswith('qemu-')]
        ours = [line for line in lines if not NOISE.search(line)]
        return (ours or lines or ['nothing'])[-1][:200]

    def act(self, since: float, source: View, destination: View) -> None:
        if source.migration == destination.migration == PAUSED and \
                self.recoveries >= RECOVERIES:
            self.refused = self.failure(source, destination)
            return
        super().act(since, source, destination)

    def recover(self) -> None:
        comment(self.last_words())
        if self.relay and self.relay.wrong:
            raise GuestError(f'the stream is wrong: {self.relay.wrong}')
        try:
            super().recover()
        except Deaf:
            raise
        except GuestError as exc:
            self.refused = f'failed: recovery: {exc}; {self.last_words()}'

    def end(self) -> None:
        """Who still runs ends when told to, and has not done wrong."""
        for vm in self.vms:
            if not vm.is_running():
                continue
            vm.monitor().ask('quit', ANSWER)
            vm.wait_end(QUIT)
            if vm.is_running():
                raise Lost(f"the {vm.side} does not end after 'quit'")
        self.check_sides()
        check_disk(self.job / 'disk')

    def attempt(self) -> str:
        """All of it."""
        outcome = self.settle()
        if not self.mutator or not self.mutator.done_at:
            raise NotReached('the migration did not come to this place')
        if self.case.mutation.recovery:
            self.tell_place()
        self.end()
        return outcome

    def go_through(self) -> str:
        self.start()
        relay = self.link(self.point.where)
        self.precopy(f'tcp:127.0.0.1:{self.port}',
                     f'tcp:127.0.0.1:{relay.port}')
        self.postcopy(relay)
        try:
            outcome = self.attempt()
        except (Lost, Deaf) as exc:
            if self.mode.kvm_userfault:
                raise
            outcome = f'NOT ASSERTED with userfaultfd: {exc}'
        took = time.monotonic() - self.began
        place = self.mutator.done_at if self.mutator else ''
        return f"{place}; seed '{self.case.seed}', {took:.0f} s: {outcome}"


# --- The command line ---

def parse_args() -> MutationConditions:
    """The command line."""
    named = Named('mutation', GROUPS, lambda mutation: mutation.what)
    parser = named.parser(PROG, __doc__)
    parser.add_argument('--asan', choices=['destination', 'both'],
                        help='who runs the QEMU that is built for '
                        'AddressSanitizer, by: make qemu-asan')
    parser.add_argument('--draw', metavar='N', type=int, default=0,
                        help='N mutations that are drawn, too')
    parser.add_argument('--seed', metavar='S', type=int, default=0,
                        help='draw other ones, and other places; the same for '
                        'the same S [0]')
    parser.add_argument('--from', metavar='N', type=int, default=0,
                        dest='first', help='leave the first N that are drawn '
                        'out')
    args = parser.parse_args()
    asked = named.asked(parser, args.names) or \
        ({} if args.draw else named.all)
    cases = {name: Case(name, mutation, f'{args.seed}/{name}')
             for name, mutation in asked.items()
             if args.preempt or not mutation.preempt}
    for number, (name, seed) in enumerate(drawn(args.seed, args.draw,
                                                args.preempt)):
        if number >= args.first:
            cases[f'drawn-{args.seed}-{number}-{name}'] = Case(
                name, MUTATIONS[name], seed, True)
    asan: Dict[Optional[str], List[str]] = {
        None: [], 'destination': ['destination'],
        'both': ['source', 'destination']}
    return MutationConditions(Mode(args.mode, args.preempt), args.backing,
                              args.trace, args.verbose, args.device, False, {},
                              cases, asan[args.asan])


def work() -> int:
    """All mutations asked for."""
    conditions = parse_args()
    cases = conditions.cases
    if conditions.asan:
        require(ASAN_BUILD / 'qemu-system-x86_64', 'QEMU for AddressSanitizer',
                'make qemu-asan')
        os.environ['ASAN_OPTIONS'] = \
            f"{ASAN_OPTIONS}:{os.environ.get('ASAN_OPTIONS', '')}"
    return run_cases(list(cases), conditions, lambda name, job:
                     MutatedStream(conditions, cases[name], job))


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
