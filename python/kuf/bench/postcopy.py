# SPDX-License-Identifier: GPL-2.0-or-later
"""
Compare postcopy on KVM userfault with userfaultfd, over many kinds of guests.

Runs demo/run for each of them, and bench/idle-cost, keeps the figures in
bench/results, and brings the documents up to date.
"""

import argparse
from pathlib import Path
import shlex
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf import cli, process
from kuf.bench import idle_cost
from kuf.cli import Failure
from kuf.documents.main import generate
from kuf.documents.postcopy import digest
from kuf.documents.records import Versions, keep
from kuf.paths import (
    BASE_BUILD,
    BUILD,
    RESULTS,
    TOP,
)
from kuf.report.figures import Data, verdict
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


# 1 vCPU, 128 MB, anonymous memory with THP, random order, 90 % writes, a
# socket.  All others differ from it in one respect.
COMMON = Guest('common', 'common guest', '')

SWEEPS = [
    Sweep('The common guest', [COMMON]),
    Sweep('Number of vCPUs', [
        Guest('vcpus-2', '2 vCPUs', '--vcpus 2 --threads 2'),
        Guest('vcpus-4', '4 vCPUs', '--vcpus 4 --threads 4 --own 4'),
        Guest('vcpus-8', '8 vCPUs', '--vcpus 8 --threads 8 --own 2'),
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
        Guest('no-apf', 'no asynchronous page faults',
              '--no-async-page-faults'),
    ]),
    Sweep('Network round trip', [
        Guest('rtt-200', 'round trip of 200 us', '--rtt 200'),
    ]),
]

# What is not compared with all others: pages that are too large for
# userfaultfd, and a source that sends the pages of one that was asked for as a
# whole.
APART = [
    Guest('hugetlb-1g', 'hugetlb, 1G',
          '--backing hugetlb-1g --memory 1024 --host-memory 6G'),
    Guest('stock-source', 'hugetlb, 2M, from QEMU without the fork',
          '--backing hugetlb --source '
          + shlex.quote(str(BASE_BUILD / 'qemu/qemu-system-x86_64'))),
]

# A clock that counts instructions.  The first guest is as small as can be; the
# other has more memory than can come before the guest runs.
INSTRUCTIONS = [
    Guest('instructions', 'background pages at 4 MB/s',
          '--icount --own 4 --shared 4 --bandwidth 64'),
    Guest('instructions-all', 'unlimited background bandwidth',
          '--icount --memory 256 --own 48 --shared 24 --bandwidth 64 '
          '--postcopy-bandwidth 0'),
]


def guests() -> List[Guest]:
    """All whose clock is the wall's."""
    return [guest for sweep in SWEEPS for guest in sweep.guests]


def all_guests() -> List[Guest]:
    """Those that are not compared with them, too."""
    return [*guests(), *APART, *INSTRUCTIONS]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--rounds', type=int, default=2, metavar='N',
                        help='migrations of each guest in each mode [2]')
    parser.add_argument('--output', type=Path, default=BUILD / 'bench',
                        metavar='DIR', help='the numbers [build/bench]')
    parser.add_argument('--again', action='store_true',
                        help='measure what there are numbers of, too')
    part = parser.add_mutually_exclusive_group()
    part.add_argument('--guests', nargs='+', default=[], metavar='NAME',
                      choices=[guest.name for guest in all_guests()],
                      help='a short run: these alone, of: %(choices)s; what '
                      'is kept stays as it is')
    part.add_argument('--only-report', action='store_true',
                      help='measure nothing, keep the figures of what is '
                      'there')
    return parser.parse_args()


def measured(folder: Path, guest: Guest) -> Optional[Data]:
    """What is there of a guest, if demo/run passed."""
    path = folder / guest.name / 'report.json'
    if not path.exists():
        return None
    data = load(path)
    return data if verdict(data).good else None


def migrate(folder: Path, todo: List[Guest], count: int, again: bool) -> None:
    """Migrate guests; what is there already can stay."""
    for index, guest in enumerate(todo, 1):
        if measured(folder, guest) and not again:
            continue
        output = folder / guest.name
        print(f'{guest.name}, {index} of {len(todo)}', flush=True)
        if process.run([TOP / 'demo/run', '--modes', 'all', '--rounds',
                        str(count), '--output', output, '--timeout', '3600',
                        *shlex.split(guest.options)]):
            raise Failure(f'{guest.name} failed; see above, and {output}/logs')


def count_instructions(again: bool) -> None:
    """Of a QEMU with the feature off."""
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


def reports(found: Dict[str, Data], several: List[Guest]) -> List[Data]:
    """Guests with what was measured of them."""
    return [{'name': guest.name, 'title': guest.title,
             'report': found[guest.name]} for guest in several]


def publish_all(found: Dict[str, Data]) -> None:
    """Keep the figures, and bring documents up to date."""
    common = found[COMMON.name]
    print(keep(
        Versions(common['date'][:10], common['host']['qemu'],
                 common['host']['kernel']),
        'postcopy', digest(
            [{'title': sweep.title, 'guests': reports(found, sweep.guests)}
             for sweep in SWEEPS],
            reports(found, APART), reports(found, INSTRUCTIONS),
            common['guest']['kernel'])))
    generate()


def work() -> int:
    """Measure, keep the figures."""
    args = parse_args()
    if not args.only_report:
        args.output.mkdir(parents=True, exist_ok=True)
        names = args.guests or [guest.name for guest in all_guests()]
        migrate(args.output,
                [guest for guest in all_guests() if guest.name in names],
                args.rounds, args.again)
    if args.guests:
        return 0
    if not args.only_report:
        count_instructions(args.again)
    publish_all(load_all(args.output))
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
