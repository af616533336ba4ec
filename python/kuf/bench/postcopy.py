# SPDX-License-Identifier: GPL-2.0-or-later
"""
Compare postcopy on KVM userfault with userfaultfd, over many kinds of guests.

Runs demo/run for each of them, and bench/idle-cost, and writes
docs/results.md from their numbers.
"""

import argparse
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf import cli, process
from kuf.bench import idle_cost
from kuf.cli import Failure
from kuf.markdown import table
from kuf.modes import MODES, uses_kvm_userfault
from kuf.paths import BUILD, RESULTS, TOP
from kuf.report.figures import (
    CALLS,
    DOWNTIME,
    HUGE_AFTER,
    LAST_PAGE,
    LATENCY,
    RATE,
    REQUESTS,
    SWITCHES,
    USERFAULTFD,
    Data,
    Figure,
    Run,
    number,
    ratio,
    rounds,
    verdict,
)
from kuf.report.report import load


PROG = 'bench/postcopy'
IDLE_COST = RESULTS / 'idle-cost.json'


class Guest(NamedTuple):
    """A kind of guest: its name, and demo/run's options for it."""
    name: str
    title: str
    options: str


class Sweep(NamedTuple):
    """Guests that differ from the common one in one respect."""
    title: str
    guests: List[Guest]


COMMON = Guest('common', '1 vCPU, 128 MB, anonymous memory with THP, random '
               'order, 90 % writes, a socket', '')

SWEEPS = [
    Sweep('Number of vCPUs', [
        Guest('vcpus-2', '2', '--vcpus 2 --threads 2'),
        Guest('vcpus-4', '4', '--vcpus 4 --threads 4 --own 4'),
        Guest('vcpus-8', '8', '--vcpus 8 --threads 8 --own 2'),
    ]),
    Sweep('Memory', [
        Guest('memory-256', '256 MB', '--memory 256 --own 16 --shared 8'),
        Guest('memory-512', '512 MB', '--memory 512 --own 32 --shared 16'),
    ]),
    Sweep('What the memory is in the host', [
        Guest('anonymous', 'anonymous, 4K', '--backing anonymous'),
        Guest('shmem', 'shmem', '--backing shmem'),
        Guest('hugetlb', 'hugetlb, 2M', '--backing hugetlb'),
    ]),
    Sweep('What the guest does', [
        Guest('sequential', 'sequential order', '--order sequential'),
        Guest('read-mostly', '10 % writes', '--write 10'),
    ]),
    Sweep('Way between the hosts', [
        Guest('rtt-200', '200 us there and back', '--rtt 200'),
    ]),
]

# A clock that counts instructions.  The first guest is as small as can be; the
# other has more memory than can come before the guest runs.
INSTRUCTIONS = [
    Guest('instructions', 'Pages that nobody has asked for at 4 MB/s',
          '--icount --own 4 --shared 4 --bandwidth 64'),
    Guest('instructions-all', 'Pages that nobody has asked for as fast as may '
          'be', '--icount --memory 256 --own 48 --shared 24 --bandwidth 64 '
          '--postcopy-bandwidth 0'),
]


def per_page(run: Run) -> Optional[float]:
    """
    Nanoseconds from the switch to the last page, a page that came after it.
    Some come before the guest runs.
    """
    down, last = number(run, 'downtime_ms'), number(run, 'postcopy_ms')
    pages = number(run, 'pages_placed')
    if down is None or last is None or not pages:
        return None
    return (down + last) * 1e6 / pages


P50, P99 = LATENCY[:2]

FIGURES = [DOWNTIME, LAST_PAGE, REQUESTS, P50, P99, RATE[0], CALLS, SWITCHES,
           HUGE_AFTER, USERFAULTFD]

INSTRUCTION_FIGURES = [
    P50, P99, DOWNTIME, LAST_PAGE,
    Figure('instructions from the switch to the last page, a page',
           per_page, whole=True),
    REQUESTS, CALLS, SWITCHES,
]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--rounds', type=int, default=2, metavar='N',
                        help='migrations of each guest in each mode [2]')
    parser.add_argument('--output', type=Path, default=BUILD / 'bench',
                        metavar='DIR', help='the numbers [build/bench]')
    parser.add_argument('--report', type=Path, metavar='PATH',
                        default=TOP / 'docs/results.md',
                        help='the report [docs/results.md]')
    parser.add_argument('--again', action='store_true',
                        help='measure what there are numbers of, too')
    parser.add_argument('--only-report', action='store_true',
                        help='measure nothing, write the report on the '
                        'numbers that are there')
    return parser.parse_args()


def guests() -> List[Guest]:
    """All whose clock is the wall's."""
    return [COMMON, *(guest for sweep in SWEEPS for guest in sweep.guests)]


def all_guests() -> List[Guest]:
    """Those of the instruction clock, too."""
    return [*guests(), *INSTRUCTIONS]


def measured(folder: Path, guest: Guest) -> Optional[Data]:
    """What is there of a guest, if demo/run passed."""
    path = folder / guest.name / 'report.json'
    if not path.exists():
        return None
    data = load(path)
    return data if verdict(data).good else None


def measure(folder: Path, count: int, again: bool) -> None:
    """Migrate all guests, and count; what is there already can stay."""
    todo = all_guests()
    for index, guest in enumerate(todo, 1):
        if measured(folder, guest) and not again:
            continue
        output = folder / guest.name
        print(f'{guest.name}, {index} of {len(todo)}', flush=True)
        if process.run([TOP / 'demo/run', '--modes', 'all', '--rounds',
                        str(count), '--output', output, '--timeout', '3600',
                        *guest.options.split()]):
            raise Failure(f'{guest.name} failed; see above, and {output}/logs')
    if not IDLE_COST.exists() or again:
        if process.run([idle_cost.LAUNCHER]):
            raise Failure('bench/idle-cost failed; see above')


def load_all(folder: Path) -> Dict[str, Data]:
    """What was measured of all guests, by their names."""
    found = {}
    for guest in all_guests():
        data = measured(folder, guest)
        if not data:
            raise Failure(f'{guest.name} was not measured, or failed; leave '
                          'out --only-report')
        found[guest.name] = data
    return found


def guest_table(data: Data, figures: List[Figure]) -> str:
    """Figures by mode, with what they are of userfaultfd's."""
    rows = []
    for figure in figures:
        row = [figure.label(data)]
        for mode in MODES:
            share = ratio(data, figure, mode)
            row.append(figure.text(figure.median(data, mode))
                       + (f' ({share:.2f})' if share is not None else ''))
        rows.append(row)
    return table([f'median of {rounds(data)}', *MODES], rows)


def guest_sections(found: Dict[str, Data], several: List[Guest],
                   figures: List[Figure]) -> str:
    """A table for each of them, under its title."""
    return '\n'.join(f'### {guest.title}\n\n'
                     + guest_table(found[guest.name], figures)
                     for guest in several)


def sweep_section(found: Dict[str, Data], sweep: Sweep) -> str:
    """All guests of a sweep."""
    return (f'## {sweep.title}\n\n'
            + guest_sections(found, sweep.guests, FIGURES))


def comparison(found: Dict[str, Data]) -> str:
    """Where it is better, and where not."""
    lines = []
    for figure in FIGURES:
        shares = [(share, f'{guest.name}, {mode}')
                  for guest in guests()
                  for mode in MODES if uses_kvm_userfault(mode)
                  and (share := ratio(found[guest.name], figure,
                                      mode)) is not None]
        if shares:
            (low, where_low), (high, where_high) = min(shares), max(shares)
            lines.append([figure.label(found[COMMON.name]),
                          f'{median(s for s, _ in shares):.2f}',
                          f'{low:.2f} ({where_low})',
                          f'{high:.2f} ({where_high})'])
    return table(['figure', 'median', 'least', 'most'], lines)


REPORT = '''\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Generated by bench/postcopy; change that, not this. -->
# Postcopy on KVM userfault and on userfaultfd, compared

Linux guests that write to their memory, a disk and a network all the time are
migrated from one QEMU to the next, in four modes in turn. The guests check all
that they read. `make bench` measures this and writes this page; nothing in it
is typed by hand.

QEMU {qemu} with the fork's patches on Linux {kernel} with the series; guests
run {guest}. Measured {date}.

**The host is emulated**, by TCG on one processor. Its times are not those of
any real machine: an exit from the guest, a system call and a copied byte cost
other shares of a page there. All threads, those of both sides and the guest's,
share one processor, so that nothing runs side by side. Counts do not suffer
from that, nor do instructions in the last sections. Ratios in brackets are
to userfaultfd with the same setting of `postcopy-preempt`.

{migrations} migrations; in all of them the guest found all of its memory as it
had written it, {checked:,} checks of pages after the switch. userfaultfd calls,
by strace, over the whole life of the destinations: {calls_new} in the new mode,
{calls_old} in the other.

## What came out

KVM userfault's figure as a share of userfaultfd's, over all guests below; less
than 1 is less of it.

{comparison}
With userfaultfd, KVM's asynchronous page faults let the guest's other tasks go
on while a page is missing, and ask for theirs. With KVM userfault a vCPU waits
for one page at a time, which makes the longest waits longer where a guest has
more tasks than vCPUs. Without preemption the source sends what was asked for
when its limit allows the next pages, every 100 ms.

## The common guest

{title}

{common}
{sweeps}
## Instructions

One vCPU, and a clock of the emulated host that counts instructions: those of
the guest, of both QEMUs and of their kernel, for nothing else runs. A wait
ends when the page is there: it has the request to the source, the source's
answer, and whatever else wants the one processor meanwhile. 1 kinsn is a
thousand instructions, 1 Minsn a million.

{instructions}
{idle}'''


def report(found: Dict[str, Data]) -> str:
    """The page."""
    common = found[COMMON.name]
    runs = [run for data in found.values() for run in data['runs']]
    idle = idle_cost.markdown(idle_cost.saved(IDLE_COST))

    def calls(new: bool) -> int:
        return sum(run['userfaultfd_calls'] or 0 for run in runs
                   if uses_kvm_userfault(run['mode']) == new)
    return REPORT.format(
        qemu=common['host']['qemu'], kernel=common['host']['kernel'],
        guest='Linux ' + common['guest']['kernel'], date=common['date'][:10],
        migrations=len(runs), calls_new=calls(True), calls_old=calls(False),
        checked=sum(run['checked_pages'] for run in runs),
        comparison=comparison(found),
        title=fill(f'{COMMON.title}. All others differ from it in one respect.',
                   80),
        common=guest_table(common, FIGURES),
        sweeps='\n'.join(sweep_section(found, sweep) for sweep in SWEEPS),
        instructions=guest_sections(found, INSTRUCTIONS, INSTRUCTION_FIGURES),
        idle=idle)


def work() -> int:
    """Measure, write the report."""
    args = parse_args()
    if not args.only_report:
        args.output.mkdir(parents=True, exist_ok=True)
        measure(args.output, args.rounds, args.again)
    args.report.write_text(report(load_all(args.output)), encoding='utf-8')
    print(args.report)
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
