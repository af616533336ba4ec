# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure what a page costs that has arrived, while others are still missing.

Runs KVM's userfault_perf_test in the emulated host, under the instruction
clock, in each way in which KVM maps guest memory, writes the numbers as JSON,
keeps them in bench/results, and brings the documents up to date.
"""

import argparse
import re
from typing import Dict

from kuf import cli
from kuf.bench import numbers
from kuf.bench.counting import host, release
from kuf.cli import Failure
from kuf.documents.present_memory import CASES, digest
from kuf.documents.publish import publish
from kuf.documents.records import Data
from kuf.paths import SELFTESTS


PROG = 'bench/present-memory'
TEST = SELFTESTS / 'userfault_perf_test'

# How KVM maps guest memory, and what is more on the kernel's command line.
MAPPINGS = {
    'TDP MMU': '',
    'TDP, without the TDP MMU': 'kvm.tdp_mmu=0',
    'shadow paging': 'kvm_amd.npt=0',
}

LINE = re.compile(r'^(?P<case>[a-z ]+?) +(?P<cost>\d+\.\d) +(?P<exits>\d+) '
                  r'+(?P<small>\d+) +(?P<huge>\d+)\s*$', re.M)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--kernel', metavar='NAME', default='default',
                        help='the patched kernel, as for host/run [default]')
    parser.add_argument('--size', metavar='MB', type=int, default=128,
                        help='memory that the guest reads, in MB [128]')
    numbers.add_json(parser, 'present-memory')
    numbers.add_only_report(parser)
    return parser.parse_args()


def measure(args: argparse.Namespace, append: str) -> Dict[str, Data]:
    """All cases in one boot; the first round pays for what is set up once."""
    output = host(args.kernel, f'{TEST} -b 4M >/dev/null\n'
                  f'{TEST} -b {args.size}M\n', '--append', append)
    cases = {match['case']: {'cost': float(match['cost']),
                             **{name: int(match[name]) for name in
                                ('exits', 'small', 'huge')}}
             for match in LINE.finditer(output)}
    if list(cases) != list(CASES):
        raise Failure('the test does not print what it should:\n' + output)
    return cases


def collect(args: argparse.Namespace) -> Data:
    """Measure all that the report is about."""
    if not TEST.exists():
        raise Failure(f"{TEST} is not built; run 'make'")
    return {'release': release(args.kernel),
            'megabytes': args.size,
            'mappings': {name: measure(args, append)
                         for name, append in MAPPINGS.items()}}


def work() -> int:
    """Measure, and keep it."""
    args = parse_args()
    data = numbers.measured(args, lambda: collect(args))
    publish('present-memory', args.json, data['release'], digest(data))
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
