# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure what a page costs that a vCPU has to wait for.

Runs KVM's demand_paging_test in the emulated host, under the instruction
clock, with userfaultfd, with KVM userfault, with both and with neither, writes
the numbers as JSON, keeps what documents need in bench/results, and brings the
documents up to date.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
import re
import shlex
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
)

from kuf import cli
from kuf.bench import numbers
from kuf.bench.counting import host, release
from kuf.cli import Failure
from kuf.documents.missing_page import digest
from kuf.documents.publish import publish
from kuf.documents.records import Data
from kuf.paths import SELFTESTS


PROG = 'bench/demand-paging'

SHMEM_HUGE = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'


class Resolver(NamedTuple):
    """Who resolves a vCPU's fault."""
    name: str
    options: str
    shared_only: bool = False


class Memory(NamedTuple):
    """What the guest's memory is."""
    name: str
    options: str
    setup: str
    shared: bool


class Measurement(NamedTuple):
    """One run of the test, as it is written to the JSON."""
    kernel: str
    backing: str
    mode: str
    vcpus: int
    setup: str
    options: str


RESOLVERS = {resolver.name: resolver for resolver in (
    Resolver('none', ''),
    Resolver('none, present', '-p'),
    Resolver('userfaultfd', '-u MISSING'),
    Resolver('userfaultfd minor', '-u MINOR', True),
    Resolver('userfault', '-k'),
    Resolver('userfault, present', '-k -p'),
    Resolver('both', '-k -u MISSING'),
    Resolver('both minor', '-k -u MINOR', True),
)}

# A page is 4K in all of these: -g.
MEMORIES = {memory.name: memory for memory in (
    Memory('anonymous', '-g -s anonymous',
           f'echo never > {SHMEM_HUGE}', False),
    Memory('anonymous, THP', '-g -s anonymous_thp',
           f'echo never > {SHMEM_HUGE}', False),
    Memory('shmem', '-g -s shmem',
           f'echo never > {SHMEM_HUGE}', True),
    Memory('shmem, THP', '-g -s shmem',
           f'echo always > {SHMEM_HUGE}', True),
)}

# Those that a kernel without the feature has as well.
PLAIN_RESOLVERS = ('none', 'none, present', 'userfaultfd')

# One vCPU's fault on hugetlb: userfaultfd can place nothing less than 2M.
HUGETLB = (('userfaultfd', '-u MISSING'), ('userfault', '-k -g'))

OUTPUT = re.compile(
    r'^Total guest execution time:\s+(?P<total_s>\d+\.\d+)s$'
    r'.*^Pages:\s+(?P<pages>\d+)$'
    r'.*^Paging time:\s+(?P<ns>\d+) ns,.*?$'
    r'.*^Userfault exits:\s+(?P<exits>\d+)$'
    r'.*^Context switches:\s+(?P<voluntary>\d+) voluntary, '
    r'(?P<involuntary>\d+) involuntary$', re.M | re.S)


@dataclass
class Setup:
    """What is measured with."""
    test: Path
    kernel: str
    base_kernel: str
    # Memory of all vCPUs together, in megabytes.
    size: int
    vcpus: List[int]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--test', metavar='PATH', type=Path,
                        default=SELFTESTS / 'demand_paging_test',
                        help='the selftest [build/selftests/'
                        'demand_paging_test]')
    parser.add_argument('--kernel', metavar='NAME', default='default',
                        help='the patched kernel, as for host/run [default]')
    parser.add_argument('--base-kernel', metavar='NAME', default='base',
                        help='the same without the series [base]')
    parser.add_argument('--size', metavar='MB', type=int, default=16,
                        help='memory of all vCPUs together, in MB [16]')
    parser.add_argument('--vcpus', metavar='N,N', default='1,2,4,8',
                        type=lambda text: [int(n) for n in text.split(',')],
                        help='numbers of vCPUs [1,2,4,8]')
    numbers.add_json(parser, 'demand-paging')
    numbers.add_only_report(parser)
    args = parser.parse_args()
    for vcpus in args.vcpus:
        if vcpus < 1 or args.size % (2 * vcpus):
            parser.error(f'{args.size} MB are not shared by {vcpus} vCPUs '
                         'in steps of 2 MB')
    return args


def all_options(setup: Setup, options: str, vcpus: int) -> str:
    """The test's options, with those that all runs have."""
    return f'-v {vcpus} -b {setup.size // vcpus}M {options}'.strip()


def make_run(setup: Setup, kernel: str, backing: Memory,
             mode: Resolver, vcpus: int) -> Measurement:
    """A run of the table."""
    return Measurement(
        kernel, backing.name, mode.name, vcpus, backing.setup,
        all_options(setup, f'{backing.options} {mode.options}', vcpus))


def table_runs(setup: Setup) -> Iterator[Measurement]:
    """All modes on the patched kernel."""
    for backing in MEMORIES.values():
        for vcpus in setup.vcpus:
            for mode in RESOLVERS.values():
                if backing.shared or not mode.shared_only:
                    yield make_run(setup, setup.kernel, backing, mode, vcpus)


def plain_runs(setup: Setup, kernel: str) -> Iterator[Measurement]:
    """What both kernels can do, with the fewest vCPUs and the most."""
    for backing in MEMORIES.values():
        for vcpus in sorted({min(setup.vcpus), max(setup.vcpus)}):
            for name in PLAIN_RESOLVERS:
                yield make_run(setup, kernel, backing, RESOLVERS[name], vcpus)


def hugetlb_runs(setup: Setup) -> Iterator[Measurement]:
    """One vCPU on hugetlb pages of 2M."""
    for name, options in HUGETLB:
        yield Measurement(
            setup.kernel, 'hugetlb, 2M', name, 1,
            f'echo {setup.size // 2 + 1} > {NR_HUGEPAGES}',
            all_options(setup, f'-s anonymous_hugetlb_2mb {options}', 1))


def program(setup: Setup) -> str:
    """The test as the host's shell takes it."""
    return shlex.quote(str(setup.test.resolve()))


def boot(setup: Setup, runs: List[Measurement]) -> List[str]:
    """
    What each of these runs prints, all in one boot of their kernel.

    The first runs in a boot pay for what the kernel sets up once; a round of
    runs that does not count comes before.
    """
    warm_up = [run for run in runs if run[1:4:2] == runs[0][1:4:2]]
    script = ''.join(
        f'{run.setup}\necho "@@"\n{program(setup)} {run.options} 2>&1\n'
        for run in warm_up + runs)
    outputs = host(runs[0].kernel, script).split('@@\n')
    return outputs[1 + len(warm_up):]


def figures(run: Measurement, output: str) -> Dict[str, int]:
    """The figures in a run's output."""
    match = OUTPUT.search(output)
    if not match:
        raise Failure(f"with '{run.options}' the test does not print what "
                      'it should; is --test the selftest of this series?\n'
                      f'{output}')
    found = {name: int(text) for name, text in match.groupdict().items()
             if name != 'total_s'}
    found['total_ns'] = int(match['total_s'].replace('.', ''))
    return found


def measure(setup: Setup, runs: List[Measurement]) -> List[Data]:
    """Each run, with what it printed in each of two boots."""
    boots = []
    for number in (1, 2):
        print(f"kernel '{runs[0].kernel}': boot {number} of 2, "
              f'{len(runs)} runs', flush=True)
        boots.append(boot(setup, runs))
    return [{**run._asdict(), 'outputs': list(outputs),
             'numbers': [figures(run, output) for output in outputs]}
            for run, *outputs in zip(runs, *boots)]


def count_calls(setup: Setup) -> List[Data]:
    """
    System calls by name, of one vCPU.

    Each mode runs with two sizes: the difference is that of the pages alone.
    """
    print('system calls', flush=True)
    backing = MEMORIES['anonymous']
    modes = [mode for mode in RESOLVERS.values() if not mode.shared_only]
    sizes = (1, 3)
    script = ''.join(
        f'echo "@@"\nstrace -f -c -U calls,name -o /tmp/calls '
        f'{program(setup)} -b {size}M {backing.options} {mode.options} '
        f'>/dev/null 2>&1\ncat /tmp/calls\n'
        for mode in modes for size in sizes)
    outputs = iter(host(setup.kernel, script).split('@@\n')[1:])
    pages = (sizes[1] - sizes[0]) << 8
    result = []
    for mode in modes:
        raw = [next(outputs) for _ in sizes]
        few, many = (dict((name, int(count)) for count, name in re.findall(
            r'^ *(\d+) (?!total)(\w+)$', text, re.M)) for text in raw)
        result.append({
            'mode': mode.name, 'pages': pages, 'outputs': raw,
            'calls': {name: many[name] - few.get(name, 0) for name in
                      sorted(many) if many[name] != few.get(name, 0)}})
    return result


def collect(setup: Setup) -> Data:
    """Measure all that the report is about."""
    if not setup.test.exists():
        raise Failure(f'{setup.test} is not built; name the selftest with '
                      '--test')
    return {
        'kernel': setup.kernel,
        'releases': {kernel: release(kernel)
                     for kernel in (setup.kernel, setup.base_kernel)},
        'megabytes': setup.size,
        'vcpus': setup.vcpus,
        'table': measure(setup, list(table_runs(setup))),
        'plain': {name: measure(setup, list(plain_runs(setup, kernel)))
                  for name, kernel in (('patched', setup.kernel),
                                       ('base', setup.base_kernel))},
        'hugetlb': measure(setup, list(hugetlb_runs(setup))),
        'calls': count_calls(setup),
    }


def work() -> int:
    """Measure, write the numbers, keep them."""
    args = parse_args()
    setup = Setup(args.test, args.kernel, args.base_kernel, args.size,
                  args.vcpus)
    data = numbers.measured(args, lambda: collect(setup))
    publish('missing-page', args.json, data['releases'][data['kernel']],
            digest(data))
    print(args.json)
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
