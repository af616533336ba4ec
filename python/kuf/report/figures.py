# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a report says: the numbers in report.json, what is made of them, and how
they are called.  docs/demo-report.md describes the file.
"""

from statistics import median
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf import modes
from kuf.cli import Failure, counted
from kuf.modes import uses_kvm_userfault


SCHEMA = 1

# A guest is back when it does this share of what it did before, on an average
# of so many ms.
BACK = 0.95
BACK_FOR = 1000

# As in the JSON: all of it, and a migration.
Data = Dict[str, Any]
Run = Dict[str, Any]

# With "instructions", a nanosecond of the host's clock is an instruction.
UNITS = {
    'wall': {'us': 'us', 'ms': 'ms', 's': 's'},
    'instructions': {'us': 'kinsn', 'ms': 'Minsn', 's': 'Ginsn'},
}


# What the JSON says

def check_schema(data: Any) -> None:
    """Is it what this program knows?"""
    found = data.get('schema') if isinstance(data, dict) else None
    if found != SCHEMA:
        raise Failure(
            f'the report has schema {found}, and this demo/report.py knows '
            f'{SCHEMA}; use the demo/report.py next to the demo/run that '
            'wrote it')


def dig(data: Any, *path: str) -> Any:
    """What is there by these names; None if it isn't."""
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def number(run: Run, *path: str) -> Optional[float]:
    """A number in a run, if it was measured."""
    value = dig(run, *path)
    return value if isinstance(value, (int, float)) else None


def all_runs(data: Data) -> List[Run]:
    """The migrations, in the order in which they were done."""
    return data.get('runs') or []


def all_modes(data: Data) -> List[str]:
    """In the order of display."""
    seen = [str(run.get('mode')) for run in all_runs(data)]
    return list(dict.fromkeys([*(data.get('modes') or []), *seen]))


def runs_of(data: Data, mode: str) -> List[Run]:
    """A mode's migrations that went well: those that have numbers."""
    return [run for run in all_runs(data)
            if run.get('mode') == mode and run.get('ok')]


def failures(data: Data) -> List[Run]:
    """Migrations that did not go well."""
    return [run for run in all_runs(data) if not run.get('ok')]


def rounds(data: Data) -> int:
    """How often each mode had its turn, at most."""
    return max((len(runs_of(data, mode)) for mode in all_modes(data)),
               default=0)


def units(data: Data) -> Dict[str, str]:
    """Names of times of 10^-6, 10^-3 and 1 s of the host's clock."""
    return UNITS.get(str(data.get('clock')), UNITS['wall'])


# What is made of a run

def mean_rate(points: List[List[float]], start: float,
              end: float) -> Optional[float]:
    """
    The mean of a rate from start to end.

    Each point is the rate since the point before; what is before the first
    one is as long as what follows it.
    """
    if len(points) < 2:
        return None
    begin = 2 * points[0][0] - points[1][0]
    area = covered = 0.0
    for when, rate in points:
        part = min(when, end) - max(begin, start)
        if part > 0:
            area += rate * part
            covered += part
        begin = when
    return area / covered if covered else None


def postcopy_rate(run: Run) -> Optional[float]:
    """The guest's rate during postcopy."""
    end = number(run, 'marks', 'completed')
    if end is None:
        return None
    return mean_rate(run.get('rate') or [],
                     number(run, 'marks', 'resumed') or 0, end)


def rate_before(run: Run) -> Optional[float]:
    """The guest's rate before the migration."""
    start = number(run, 'marks', 'start')
    if start is None:
        return None
    return mean_rate(run.get('rate') or [], float('-inf'), start)


def time_back(points: List[List[float]], resumed: float,
              wanted: float) -> float:
    """
    When a guest's rate is what was wanted again, for a while; if it never is,
    the end of what is known.
    """
    last = points[-1][0]
    for when, _ in points:
        if resumed <= when <= last - BACK_FOR:
            rate = mean_rate(points, when, when + BACK_FOR)
            if rate is not None and rate >= wanted:
                return when
    return last


def when_back(run: Run) -> Optional[float]:
    """When the guest's rate on the destination is what it was before."""
    points = run.get('rate') or []
    before = rate_before(run)
    resumed = number(run, 'marks', 'resumed')
    if not points or not before or resumed is None:
        return None
    return time_back(points, resumed, BACK * before)


def time_lost(run: Run) -> Optional[float]:
    """
    The guest's progress that is missing from the switch-over until it is back,
    as seconds of its rate before.
    """
    before = rate_before(run)
    stopped = number(run, 'marks', 'stopped')
    back = when_back(run)
    if not before or stopped is None or back is None:
        return None
    rate = mean_rate(run['rate'], stopped, back)
    if rate is None:
        return None
    return (1 - rate / before) * (back - stopped) / 1000


def request_rate(run: Run) -> Optional[float]:
    """
    Pages that were asked for, a second, from the guest's start on the
    destination until it is back.
    """
    resumed = number(run, 'marks', 'resumed')
    requests = number(run, 'requests')
    back = when_back(run)
    if resumed is None or requests is None or back is None:
        return None
    seconds = (back - resumed) / 1000
    return requests / seconds if seconds > 0 else None


def percent(part: Optional[float], whole: Optional[float]) -> Optional[float]:
    """A share, if there is something to share."""
    return 100 * part / whole if part is not None and whole else None


def scaled(divisor: float, *path: str) -> Callable[[Run], Optional[float]]:
    """A way to find a number in another unit."""
    def find(run: Run) -> Optional[float]:
        value = number(run, *path)
        return None if value is None else value / divisor
    return find


def plain(*path: str) -> Callable[[Run], Optional[float]]:
    """A way to find a number as it is."""
    return lambda run: number(run, *path)


class Figure(NamedTuple):
    """Something that was measured: a row of the table."""
    # With the unit, see UNITS.
    title: str
    find: Callable[[Run], Optional[float]]
    # -1: less of it is better; 1: more is; 0: it is no contest.
    better: int = 0
    # Whole numbers.
    whole: bool = False

    def label(self, data: Data) -> str:
        """The title, in units of the host's clock."""
        return self.title.format(**units(data))

    def rounds(self, data: Data, mode: str) -> List[float]:
        """A mode's values, as far as they were measured."""
        values = (self.find(run) for run in runs_of(data, mode))
        return [value for value in values if value is not None]

    def median(self, data: Data, mode: str) -> Optional[float]:
        """The median of a mode's rounds."""
        values = self.rounds(data, mode)
        return median(values) if values else None

    def text(self, value: Optional[float]) -> str:
        """A value as it is shown."""
        if value is None:
            return '-'
        if self.whole or not value or abs(value) >= 100:
            return f'{value:,.0f}'
        digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        return f'{value:.{digits}f}'


DOWNTIME = Figure('downtime, {ms}', plain('downtime_ms'), -1)
LAST_PAGE = Figure('postcopy duration, {ms}', plain('postcopy_ms'), -1)
CALLS = Figure('system calls a page', plain('syscalls_per_page'), -1)
SWITCHES = Figure('context switches a page',
                  plain('context_switches', 'per_page'), -1)
FAULTS = Figure('vCPU faults', plain('vcpu_faults'), whole=True)
LATENCY = [
    Figure('latency p50, {us}', scaled(1e3, 'latency', 'p50_ns'), -1),
    Figure('latency p99, {us}', scaled(1e3, 'latency', 'p99_ns'), -1),
    Figure('latency max, {us}', scaled(1e3, 'latency', 'max_ns'), -1),
]
WAITED = Figure('accesses that waited, %', lambda run: percent(
    number(run, 'latency', 'waits'), number(run, 'latency', 'touches')), -1)
WAIT = Figure('half of them, less than {us}',
              scaled(1e3, 'latency', 'wait_p50_ns'), -1)
USERFAULTFD = Figure('userfaultfd calls', plain('userfaultfd_calls'),
                     whole=True)
RATE = [
    Figure('guest rate, pages/{s}', postcopy_rate, 1),
    Figure('guest rate, % of before',
           lambda run: percent(postcopy_rate(run), rate_before(run)), 1),
]
LOST = Figure('guest time lost, {s}', time_lost, -1)
HUGE = Figure('memory in huge pages, %', lambda run: percent(
    number(run, 'huge_after_kb'), number(run, 'memory_kb')), 1)
HUGE_AFTER = Figure('huge pages after, MB', scaled(1024, 'huge_after_kb'),
                    whole=True)
REQUESTS = Figure('requests', plain('requests'), whole=True)
VERIFIED = Figure('memory verified, pages', plain('verified_pages'),
                  whole=True)

WAITS = [
    Figure('vCPUs waited, {ms}', plain('waits_ms', 'vcpu')),
    Figure('devices waited, {ms}', plain('waits_ms', 'device')),
    Figure('waited before devices, {ms}', plain('waits_ms', 'before_devices')),
]

FIGURES = [DOWNTIME, LAST_PAGE, LOST, FAULTS, WAITED, *LATENCY, CALLS,
           USERFAULTFD, SWITCHES, *RATE, HUGE, VERIFIED]

# What the table of all runs has.
RUN_FIGURES = [
    Figure('precopy, {ms}', plain('precopy_ms')), DOWNTIME, LAST_PAGE, LOST,
    Figure('pages placed', plain('pages_placed'), whole=True),
    REQUESTS, FAULTS,
    Figure('waits of devices', plain('ram_waits'), whole=True),
    *WAITS,
    WAITED, WAIT, *LATENCY,
    Figure('accesses over 1 {ms}', lambda run: float(len(run['stalls']))
           if run.get('stalls') is not None else None, whole=True),
    CALLS, USERFAULTFD, SWITCHES, *RATE,
    Figure('huge pages before, MB', scaled(1024, 'huge_before_kb'),
           whole=True),
    HUGE_AFTER, VERIFIED, Figure('checks', plain('checked_pages'), whole=True),
]


def cell(data: Data, figure: Figure, mode: str) -> str:
    """A mode's figure; memory is only verified if it was in each round."""
    if figure is VERIFIED and any(run.get('mode') == mode
                                  for run in failures(data)):
        return 'FAILED'
    return figure.text(figure.median(data, mode))


class Verdict(NamedTuple):
    """Did it go well?"""
    good: bool
    word: str
    text: str


def reference(data: Data, mode: str) -> Optional[str]:
    """What a mode is compared with: userfaultfd, if there is, likewise."""
    if not uses_kvm_userfault(mode):
        return None
    same = mode.replace(modes.KVM_USERFAULT, modes.USERFAULTFD)
    return next((name for name in (same, modes.USERFAULTFD)
                 if name in all_modes(data)), None)


def ratio(data: Data, figure: Figure, mode: str) -> Optional[float]:
    """What a figure is of that mode's, if both were measured."""
    base = reference(data, mode)
    old = figure.median(data, base) if base else None
    new = figure.median(data, mode)
    return new / old if new is not None and old else None


def problems(data: Data) -> List[str]:
    """What did not go well, the worst first."""
    runs = all_runs(data)
    done = [run for run in runs if run.get('ok')]
    wrong = [run for run in failures(data)
             if 'WRONG' in str(run.get('error'))]
    calls = sum(number(run, 'userfaultfd_calls') or 0 for run in done
                if uses_kvm_userfault(str(run.get('mode'))))
    absent = [mode for mode in all_modes(data)
              if mode not in [run.get('mode') for run in runs]]
    found = [
        (len(wrong), 'the guest found WRONG DATA in {} of {} migrations'),
        (len(runs) - len(done) - len(wrong), '{} of {} migrations failed'),
        (sum(not number(run, 'verified_pages') for run in done),
         'memory was NOT VERIFIED in {} of {} migrations'),
        (calls, 'KVM userfault made {} userfaultfd calls'),
        (len(absent), f"not done: {', '.join(absent)}"),
    ]
    return [text.format(f'{count:.0f}', len(runs)) for count, text in found
            if count]


def verdict(data: Data) -> Verdict:
    """On all migrations."""
    runs = all_runs(data)
    if not runs:
        return Verdict(False, 'NOTHING MEASURED', 'no migration was done')
    if wrong := problems(data):
        return Verdict(False, 'FAILED', '; '.join(wrong))
    text = (f"{counted(len(runs), 'migration')} of {len(runs)} completed, and "
            "after each the guest's memory was as it had written it")
    calls = [number(run, 'userfaultfd_calls') for run in runs
             if uses_kvm_userfault(str(run.get('mode')))]
    if calls and None not in calls:
        text += '; KVM userfault made no userfaultfd call'
    return Verdict(True, 'PASS', text)


# What was migrated, in words

def shown(value: Any) -> str:
    """A value that may be missing."""
    return '?' if value is None else str(value)


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f'{text[:1].upper()}{text[1:]}.'


def guest_text(data: Data) -> str:
    """The guest and its work."""
    guest = data.get('guest') or {}
    return (f"a guest of {shown(guest.get('memory_mb'))} MB "
            f"({shown(guest.get('backing'))}), "
            f"{counted(guest.get('vcpus'), 'vCPU')}, "
            f"{counted(guest.get('threads'), 'thread')}, "
            f"{shown(guest.get('order'))}, "
            f"{shown(guest.get('write_percent'))} % writes"
            + (', no asynchronous page faults'
               if guest.get('async_page_faults') is False else '')
            + (f", from {dig(data, 'host', 'source')}"
               if dig(data, 'host', 'source') else ''))


def rate_text(value: Any) -> str:
    """Bytes a second, or no limit."""
    return 'no limit' if value is None else f'{value / (1 << 20):,.0f} MB/s'


def link_text(data: Data) -> str:
    """The link's limits."""
    link = data.get('link')
    if not isinstance(link, dict):
        return 'unknown link'
    text = rate_text(link.get('bandwidth'))
    if link.get('postcopy_bandwidth') is not None:
        text += f", postcopy {rate_text(link['postcopy_bandwidth'])}"
    if link.get('rtt_us'):
        text += f", RTT {link['rtt_us']} us"
    return text


def runs_text(data: Data) -> str:
    """How often each mode had its turn."""
    return f"{counted(rounds(data), 'round')} a mode"


def host_text(data: Data) -> str:
    """The host, in short."""
    kind = 'emulated host' if data.get('emulated') else 'host'
    return (f"{kind}: Linux {shown(dig(data, 'host', 'kernel'))}, "
            f"{counted(dig(data, 'host', 'cpus'), 'CPU')}, "
            f"QEMU {shown(dig(data, 'host', 'qemu'))}")


def clock_text(data: Data) -> str:
    """What times are; nothing if they are what they seem."""
    if data.get('clock') == 'instructions':
        where = 'an emulated host' if data.get('emulated') else 'the host'
        return (f'The clock is that of {where}, and counts instructions: 1 '
                'Minsn is a million.')
    if data.get('emulated'):
        return 'Times are those of an emulated host, not of any real machine.'
    return ''
