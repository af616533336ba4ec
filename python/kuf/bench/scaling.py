# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure how many faults a second several vCPUs get resolved.

Runs KVM's demand_paging_test in an emulated host with a processor for each
vCPU, by the wall's clock, with KVM userfault and with userfaultfd in turns;
once more each, it counts how often the host's kernel waits for one of its
locks.  Then demo/run migrates a guest with so many vCPUs in such a host, where
hardly a page comes that was not asked for.  Writes the numbers as JSON, keeps
them in bench/results, and brings the documents up to date.  On a machine that
has fewer processors, or something else to do, the numbers say little.
"""

import argparse
import os
import re
from typing import Dict, List, NamedTuple

from kuf import cli, process
from kuf.bench import numbers
from kuf.bench.counting import release, wall_host
from kuf.cli import Failure
from kuf.documents.publish import publish
from kuf.documents.records import Data
from kuf.documents.scaling import digest
from kuf.paths import BUILD, SELFTESTS, TOP
from kuf.report.figures import request_rate
from kuf.report.report import load


PROG = 'bench/scaling'
TEST = SELFTESTS / 'demand_paging_test'

# Who resolves a fault, and the test's options for it.
RESOLVERS = {
    'KVM userfault': '-k',
    'a userfaultfd for each vCPU': '-u MISSING',
    'one userfaultfd': '-a -u MISSING',
}

RATE = re.compile(r'^Paging time:.* (?P<rate>[0-9.]+) pgs/sec$', re.M)

# Runs a command, and tells how often who wanted a lock had to wait, by the kind
# of lock.
COUNTED = '''
counted()
{
    event=/sys/kernel/tracing/events/lock/contention_begin
    echo hist:keys=flags >$event/trigger
    "$@"
    cat $event/hist
    echo counted
    echo '!hist:keys=flags' >$event/trigger
}
'''
WAITS = re.compile(r'^\{ flags: +(?P<flags>\d+) .*hitcount: +(?P<hits>\d+)',
                   re.M)


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


# So much memory is written to by all threads together, in megabytes.
OWN = 32
MIGRATION = ['--modes', 'all', '--rounds', '2', '--memory', '160', '--shared',
             '4', '--postcopy-bandwidth', '1']


class Measured(NamedTuple):
    """What was measured of a number of vCPUs, by who resolves faults."""
    # Pages a second in each round.
    rates: Dict[str, List[float]]
    # Waits for the kernel's locks, by their flags in trace/events/lock.h.
    waits: Dict[str, Dict[str, int]]


def measure(args: argparse.Namespace, vcpus: int) -> Measured:
    """All of them in one boot."""
    print(f'{vcpus} vCPUs', flush=True)
    tests = [f'{TEST} -v {vcpus} -b {args.size}M -g -s anonymous {options}\n'
             for options in RESOLVERS.values()]
    output = wall_host(
        args.kernel, ''.join(tests) * (args.rounds + 1) + COUNTED
        + ''.join(f'counted {test}' for test in tests), '--smp', str(vcpus))
    several = len(RESOLVERS)
    rates = [float(text) for text in RATE.findall(output)]
    # Of each, what is before it is said.
    histograms = output.split('\ncounted\n')[:-1]
    if (len(rates), len(histograms)) != (several * (args.rounds + 2), several):
        raise Failure('the test does not print what it should:\n' + output)
    return Measured(
        {name: rates[several + index:-several:several]
         for index, name in enumerate(RESOLVERS)},
        {name: {found['flags']: int(found['hits'])
                for found in WAITS.finditer(histogram)}
         for name, histogram in zip(RESOLVERS, histograms)})


def migrate(args: argparse.Namespace, vcpus: int) -> Dict[str, List[float]]:
    """Pages that were asked for, a second, in each migration, by modes."""
    output = BUILD / 'bench/scaling' / str(vcpus)
    number = str(vcpus)
    if process.run([TOP / 'demo/run', '--kernel', args.kernel, '--host-cpus',
                    number, '--vcpus', number, '--threads', number, '--own',
                    str(OWN // vcpus), *MIGRATION, '--output', output]):
        raise Failure(f'a migration failed; see above, and {output}/logs')
    found: Dict[str, List[float]] = {}
    for run in load(output / 'report.json')['runs']:
        if rate := request_rate(run):
            found.setdefault(run['mode'], []).append(rate)
    return found


def collect(args: argparse.Namespace) -> Data:
    """Measure all that the report is about."""
    if not TEST.exists():
        raise Failure(f"{TEST} is not built; run 'make'")
    found = {str(vcpus): measure(args, vcpus) for vcpus in args.vcpus}
    return {'release': release(args.kernel),
            'processors': os.cpu_count(),
            'megabytes': args.size,
            'rates': {vcpus: one.rates for vcpus, one in found.items()},
            'waits': {vcpus: one.waits for vcpus, one in found.items()},
            'migrations': {str(vcpus): migrate(args, vcpus)
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
