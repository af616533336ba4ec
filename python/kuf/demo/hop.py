# SPDX-License-Identifier: GPL-2.0-or-later
"""
One migration by postcopy, from a QEMU with a guest to a new one.
"""

import time
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from kuf.demo import console, counters
from kuf.demo.console import Console
from kuf.guest.machine import GuestError, GuestMachine, pauses
from kuf.modes import Mode


# What is kept of the time before a migration, in seconds.
HISTORY = 10
# How long a look at both sides may be apart, in seconds.
PAUSE = 0.03

# Nobody could have missed a page, which would compare nothing.
COMPLETE = ('memory was complete before the guest could go on; let it write '
            'more, or give less --bandwidth')


class Link(NamedTuple):
    """What migration may use of the network; see migrate-set-parameters."""
    bandwidth: int
    postcopy_bandwidth: int


class Side(GuestMachine):
    """One QEMU of a chain of migrations, with all that belongs to it."""

    def __init__(self, *args: Any, guest_console: Console,
                 userfaultfd: counters.UserfaultfdCalls, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.console = guest_console
        self.userfaultfd = userfaultfd
        self.events_seen: Dict[str, float] = {}

    def look(self) -> None:
        """Read its events, and see that nothing is wrong."""
        if self.console.wrong:
            raise GuestError(f'the guest in the {self.side} says: '
                             f'{self.console.wrong}')
        self.check_running()
        for event in self.get_qmp_events(wait=False):
            stamp = event['timestamp']
            when = stamp['seconds'] + stamp['microseconds'] / 1e6
            name = event['event']
            if name == 'MIGRATION':
                name = f"migration {event['data']['status']}"
            elif name == 'MIGRATION_PASS':
                name = f"pass {event['data']['pass']}"
            self.events_seen.setdefault(name, when)

    def forget_events(self) -> None:
        """The next migration has events of its own."""
        self.get_qmp_events(wait=False)
        self.events_seen.clear()


class Progress(NamedTuple):
    """What is known of a migration under way."""
    phase: str
    seconds: float
    remaining_kb: int
    mbps: float
    requests: int
    guest_rate: float


class Hop:
    """A migration and what it cost."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, source: Side, destination: Side, mode: Mode, link: Link,
                 uri: str, show: Callable[[Progress], None]):
        # pylint: disable=too-many-arguments
        source.side = 'source'
        destination.side = 'destination'
        self.source = source
        self.destination = destination
        self.mode = mode
        self.link = link
        self.uri = uri
        self.show = show
        self.phase = 'setup'
        self.calls = counters.SystemCalls()
        self.threads: Optional[counters.Threads] = None
        self.result: Dict[str, Any] = {}
        self.started = 0.0
        # The host's time, in seconds.
        self.start = self.resumed = self.completed = 0.0
        # What had been counted before that.
        self.sent_before = 0
        self.switches_before: Dict[str, Tuple[int, int]] = {}

    def run(self) -> Dict[str, Any]:
        """Do it; what it cost is as in the report, see docs/demo-report.md."""
        try:
            self.configure()
            self.precopy()
            self.postcopy()
            self.measure()
            self.verify()
        finally:
            self.calls.stop()
        return self.result

    def configure(self) -> None:
        """Both sides have their capabilities and limits."""
        common = {'postcopy_ram': True, 'events': True,
                  'postcopy_preempt': self.mode.preempt}
        self.source.capabilities(**common)
        self.destination.capabilities(
            **common, postcopy_kvm_userfault=self.mode.kvm_userfault)
        self.source.cmd('migrate-set-parameters',
                        max_bandwidth=self.link.bandwidth,
                        max_postcopy_bandwidth=self.link.postcopy_bandwidth,
                        # It must not end before there is postcopy.
                        downtime_limit=1)
        self.source.forget_events()

    def wait(self, side: Side, event: str) -> float:
        """Wait for an event; returns when it was."""
        for _ in self.looks(f"'{event}' of the {side.side}"):
            if event in side.events_seen:
                break
        return side.events_seen[event]

    def looks(self, what: str) -> Iterator[None]:
        """Look at both sides, until the caller has what it waits for."""
        shown = 0.0
        for waited in pauses(what, PAUSE):
            for side in (self.source, self.destination):
                side.look()
                if 'migration failed' in side.events_seen:
                    side.migration()
            self.check_order()
            if self.threads:
                self.threads.look()
            yield
            if waited - shown > 0.5:
                shown = waited
                self.show(self.progress())

    def check_order(self) -> None:
        """Was there postcopy before the end?"""
        seen = self.source.events_seen
        if ('migration completed' in seen
                and 'migration postcopy-active' not in seen):
            raise GuestError(COMPLETE)

    def progress(self) -> Progress:
        """For whoever looks on."""
        ram = self.source.migration().get('ram', {})
        rates = console.rates([self.source.console,
                               self.destination.console])
        return Progress(self.phase, time.monotonic() - self.started,
                        ram.get('remaining', 0) >> 10, ram.get('mbps', 0),
                        ram.get('postcopy-requests', 0),
                        rates[-1][1] if rates else 0)

    def precopy(self) -> None:
        """All of memory is sent once, while the guest goes on."""
        self.phase = 'precopy'
        self.started = time.monotonic()
        self.result['huge_before_kb'] = counters.huge_kb(
            self.source.get_pid() or 0)
        self.destination.cmd('migrate-incoming', uri=self.uri)
        self.start = time.time()
        self.source.cmd('migrate', uri=self.uri)
        # The second pass begins.
        for _ in self.looks('end of the first pass'):
            if 'pass 2' in self.source.events_seen:
                return

    def postcopy(self) -> None:
        """The guest moves, and what it has written since follows."""
        self.phase = 'postcopy'
        self.calls.start()
        self.threads = counters.Threads(self.destination.get_pid() or 0)
        self.sent_before = self.sent_pages()
        self.source.cmd('migrate-start-postcopy')
        self.wait(self.source, 'migration postcopy-active')
        self.resumed = self.wait(self.destination, 'RESUME')
        self.threads.look()
        self.switches_before = self.threads.by_role()
        self.completed = self.wait(self.destination, 'migration completed')
        self.wait(self.source, 'migration completed')
        if self.completed <= self.resumed:
            raise GuestError(COMPLETE)

    def sent_pages(self) -> int:
        """Pages that the source has sent so far."""
        ram = self.source.migration()['ram']
        return int(ram['normal'] + ram['duplicate'])

    def measure(self) -> None:
        """What the counters say."""
        self.phase = 'end'
        assert self.threads
        stopped = self.source.events_seen['STOP']
        placed = self.sent_pages() - self.sent_before
        calls = self.calls.by_role(self.threads.names)
        placing = sum(calls['placing'].values()) if calls else 0
        ram = self.source.migration()['ram']
        self.result.update(
            precopy_ms=(stopped - self.start) * 1000,
            downtime_ms=(self.resumed - stopped) * 1000,
            postcopy_ms=(self.completed - self.resumed) * 1000,
            memory_kb=ram['total'] >> 10,
            pages_placed=placed,
            requests=ram['postcopy-requests'],
            syscalls=calls,
            syscalls_per_page=placing / placed if calls and placed else None,
            userfaultfd_calls=self.destination.userfaultfd.count(),
            context_switches=self.context_switches(placed),
            huge_after_kb=counters.huge_kb(self.destination.get_pid() or 0),
            marks={name: (when - self.resumed) * 1000 for name, when in (
                ('start', self.start), ('stopped', stopped),
                ('resumed', self.resumed), ('completed', self.completed))})
        self.count_faults()

    def context_switches(self, placed: int) -> Dict[str, Any]:
        """From the start of the guest until all memory has arrived."""
        assert self.threads
        by_role = {
            role: [now - before for now, before in zip(
                counts, self.switches_before[role])]
            for role, counts in self.threads.by_role().items()}
        voluntary, involuntary = map(sum, zip(*by_role.values()))
        return {'voluntary': voluntary, 'involuntary': involuntary,
                'by_role': by_role,
                'per_page': (voluntary + involuntary) / placed
                if placed else None}

    def count_faults(self) -> None:
        """What the destination itself counted, as far as it does."""
        info = self.destination.migration().get('postcopy-fault', {})
        if info.get('backend') != self.mode.backend:
            raise GuestError(f"the backend was {info.get('backend')}, "
                             f'not {self.mode.backend}')
        stats = info.get('kvm-userfault', {})
        self.result['vcpu_faults'] = stats.get('vcpu-faults')
        self.result['ram_waits'] = stats.get('ram-waits')
        self.result['waits_ms'] = {
            name: stats[field] / 1000 for name, field in (
                ('vcpu', 'vcpu-wait'), ('device', 'ram-wait'),
                ('before_devices', 'eager-wait'))} if stats else None

    def verify(self) -> None:
        """The guest has checked its memory since all of it has arrived."""
        self.phase = 'verification'
        here = self.destination.console
        first = None
        for _ in self.looks('check of all memory'):
            sample = here.last()
            if not sample or sample.arrival < self.completed:
                continue
            if first is None:
                first = sample.passes
            # One that began after the end.
            if sample.passes >= first + 2:
                break
        consoles = [self.source.console, here]
        self.result.update(
            checked_pages=here.samples[-1].pages
            - (self.source.console.samples or here.samples)[-1].pages,
            latency=self.latency(),
            stalls=[((when - self.resumed) * 1000, us)
                    for when, us in console.stalls(here)
                    if when <= self.completed],
            rate=[((when - self.resumed) * 1000, rate)
                  for when, rate in console.rates(consoles)
                  if when > self.start - HISTORY])

    def latency(self) -> Optional[Dict[str, Any]]:
        """
        How long the first touches took of all pages that were missing at the
        switch-over.
        """
        slow = console.slow_touches(self.destination.console, self.resumed,
                                    self.completed)
        buckets = [(*console.bucket_ns(number), slow[number])
                   for number in sorted(slow)]
        missing = self.result['pages_placed']
        touches = first_touches(buckets, missing)
        waits = missing - touches[0][2]
        if not waits:
            return None
        longest = max((us * 1000 for _, us in console.stalls(
            self.destination.console)), default=0)
        return {'buckets': buckets, 'touches': missing, 'waits': waits,
                'wait_p50_ns': quantile(touches[1:], waits * 0.5),
                'p50_ns': quantile(touches, missing * 0.5),
                'p99_ns': quantile(touches, missing * 0.99),
                'max_ns': max(longest, touches[-1][0])}


def first_touches(slow: List[Any], missing: int) -> List[Any]:
    """
    A histogram with so many touches, of which these were slow.

    Whoever touches a page that has arrived does not wait; that is its first
    bucket.  Touches can be slow for other reasons, above all in an emulated
    host: there may be more of them than pages were missing.
    """
    waits = slowest(slow, missing)
    return [(0, 0, missing - sum(count for _, _, count in waits)), *waits]


def slowest(buckets: List[Any], wanted: int) -> List[Any]:
    """The upper end of a histogram, with so many."""
    kept: List[Any] = []
    for low, high, count in reversed(buckets):
        if not wanted:
            break
        count = min(count, wanted)
        wanted -= count
        kept.insert(0, (low, high, count))
    return kept


def quantile(buckets: List[Any], rank: float) -> float:
    """Where so many are below, within its bucket as if they were spread."""
    below = 0
    for low, high, count in buckets:
        if count and below + count >= rank:
            return float(low + (high - low) * (rank - below) / count)
        below += count
    return float(buckets[-1][1])
