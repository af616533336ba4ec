# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure how many faults a second several vCPUs get resolved.

Runs KVM's demand_paging_test in an emulated host with a processor for each
vCPU, by the wall's clock, with KVM userfault and with userfaultfd in turns,
writes the numbers as JSON, keeps them in bench/results, and brings the
documents up to date.  On a machine that has fewer processors, or something else
to do, the numbers say little.
"""

import argparse
import os
import re
from typing import Dict, List

from kuf import cli
from kuf.bench import numbers
from kuf.bench.counting import release, wall_host
from kuf.cli import Failure
from kuf.documents.publish import publish
from kuf.documents.records import Data
from kuf.documents.scaling import digest
from kuf.paths import SELFTESTS


PROG = 'bench/scaling'
TEST = SELFTESTS / 'demand_paging_test'

# Who resolves a fault, and the test's options for it.
RESOLVERS = {
    'KVM userfault': '-k',
    'a userfaultfd for each vCPU': '-u MISSING',
    'one userfaultfd': '-a -u MISSING',
}

RATE = re.compile(r'^Paging time:.* (?P<rate>[0-9.]+) pgs/sec$', re.M)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--kernel', metavar='NAME', default='default',
                        help='the patched kernel, as for host/run [default]')
    parser.add_argument('--vcpus', metavar='N', type=int, nargs='+',
                        default=[1, 2, 4], help='numbers of vCPUs [1 2 4]')
    parser.add_argument('--size', metavar='MB', type=int, default=32,
                        help='memory of each vCPU, in MB [32]')
    parser.add_argument('--rounds', metavar='N', type=int, default=5,
                        help='runs of each way, after one that does not count '
                        '[5]')
    numbers.add_json(parser, 'scaling')
    numbers.add_only_report(parser)
    return parser.parse_args()


def measure(args: argparse.Namespace, vcpus: int) -> Dict[str, List[float]]:
    """Pages a second in each round, all in one boot."""
    print(f'{vcpus} vCPUs', flush=True)
    script = ''.join(f'{TEST} -v {vcpus} -b {args.size}M -g -s anonymous '
                     f'{options}\n' for options in RESOLVERS.values())
    output = wall_host(args.kernel, script * (args.rounds + 1),
                       '--smp', str(vcpus))
    rates = [float(text) for text in RATE.findall(output)]
    if len(rates) != len(RESOLVERS) * (args.rounds + 1):
        raise Failure('the test does not print what it should:\n' + output)
    return {name: rates[len(RESOLVERS) + index::len(RESOLVERS)]
            for index, name in enumerate(RESOLVERS)}


def collect(args: argparse.Namespace) -> Data:
    """Measure all that the report is about."""
    if not TEST.exists():
        raise Failure(f"{TEST} is not built; run 'make'")
    return {'release': release(args.kernel),
            'processors': os.cpu_count(),
            'megabytes': args.size,
            'rates': {str(vcpus): measure(args, vcpus)
                      for vcpus in args.vcpus}}


def work() -> int:
    """Measure, and keep it."""
    args = parse_args()
    data = numbers.measured(args, lambda: collect(args))
    publish('scaling', args.json, data['release'], digest(data))
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
