# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure what a page costs that a vCPU has to wait for.

Runs KVM's demand_paging_test in the emulated host, under the instruction
clock, with userfaultfd, with KVM userfault, with both and with neither, and
writes the numbers as JSON and a report on them as Markdown.
"""

import argparse
from dataclasses import dataclass
import json
from pathlib import Path
import re
import shlex
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from kuf import cli
from kuf.bench.counting import host, release
from kuf.cli import Failure, counted
from kuf.markdown import table
from kuf.paths import RESULTS, SELFTESTS, TOP


PROG = 'bench/demand-paging'

SHMEM_HUGE = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'

# As it is in the JSON.
Record = Dict[str, Any]


class Resolver(NamedTuple):
    """Who resolves a vCPU's fault."""
    name: str
    title: str
    options: str
    shared_only: bool = False


class Memory(NamedTuple):
    """What the guest's memory is."""
    name: str
    title: str
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
    Resolver('none', 'nobody: untouched memory', ''),
    Resolver('none, present', 'nobody: memory has pages', '-p'),
    Resolver('userfaultfd', 'userfaultfd', '-u MISSING'),
    Resolver('userfaultfd minor', 'userfaultfd, minor faults', '-u MINOR',
             True),
    Resolver('userfault', 'KVM userfault: untouched memory', '-k'),
    Resolver('userfault, present', 'KVM userfault: memory has pages', '-k -p'),
    Resolver('both', 'both', '-k -u MISSING'),
    Resolver('both minor', 'both, minor faults', '-k -u MINOR', True),
)}

# A page is 4K in all of these: -g.
MEMORIES = {memory.name: memory for memory in (
    Memory('anonymous', 'anonymous memory', '-g -s anonymous',
           f'echo never > {SHMEM_HUGE}', False),
    Memory('anonymous, THP', 'anonymous memory with huge pages',
           '-g -s anonymous_thp', f'echo never > {SHMEM_HUGE}', False),
    Memory('shmem', 'shared memory', '-g -s shmem',
           f'echo never > {SHMEM_HUGE}', True),
    Memory('shmem, THP', 'shared memory with huge pages', '-g -s shmem',
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
    parser.add_argument('--json', metavar='PATH', type=Path,
                        default=RESULTS / 'demand-paging.json',
                        help='the numbers [build/results/demand-paging.json]')
    parser.add_argument('--report', metavar='PATH', type=Path,
                        default=TOP / 'docs/kvm-userfault-performance.md',
                        help='the report [docs/kvm-userfault-performance.md]')
    parser.add_argument('--only-report', action='store_true',
                        help='measure nothing, write the report on the '
                        'numbers that are there')
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


def numbers(run: Measurement, output: str) -> Dict[str, int]:
    """The figures in a run's output."""
    match = OUTPUT.search(output)
    if not match:
        raise Failure(f"with '{run.options}' the test does not print what "
                      'it should; is --test the selftest of this series?\n'
                      f'{output}')
    figures = {name: int(text) for name, text in match.groupdict().items()
               if name != 'total_s'}
    figures['total_ns'] = int(match['total_s'].replace('.', ''))
    return figures


def measure(setup: Setup, runs: List[Measurement]) -> List[Record]:
    """Each run, with what it printed in each of two boots."""
    boots = []
    for number in (1, 2):
        print(f"kernel '{runs[0].kernel}': boot {number} of 2, "
              f'{len(runs)} runs', flush=True)
        boots.append(boot(setup, runs))
    return [{**run._asdict(), 'outputs': list(outputs),
             'numbers': [numbers(run, output) for output in outputs]}
            for run, *outputs in zip(runs, *boots)]


def count_calls(setup: Setup) -> List[Record]:
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


def collect(setup: Setup) -> Record:
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


class Figures:
    """Numbers of a list of runs, by backing, mode and number of vCPUs."""

    def __init__(self, runs: List[Record]):
        self.runs = {(run['backing'], run['mode'], run['vcpus']): run
                     for run in runs}

    def get(self, backing: str, mode: str, vcpus: int) -> Optional[Record]:
        """The numbers of the first boot."""
        run = self.runs.get((backing, mode, vcpus))
        return run['numbers'][0] if run else None

    def cost(self, backing: str, mode: str, vcpus: int) -> Optional[float]:
        """Instructions a page."""
        figures = self.get(backing, mode, vcpus)
        return figures['ns'] / figures['pages'] if figures else None

    def spread(self) -> List[Tuple[float, str]]:
        """By how much the boots differ, as a share, the most first."""
        return sorted(((abs(a['ns'] - b['ns']) / a['ns'], ', '.join(
            (run['backing'], run['mode'], counted(run['vcpus'], 'vCPU'))))
            for run in self.runs.values()
            for a, b in [run['numbers']]), reverse=True)


def cost_table(figures: Figures, backing: Memory, vcpus: List[int]) -> str:
    """Instructions a page in each mode, and what that is of userfaultfd's."""
    rows = []
    for mode in RESOLVERS.values():
        row = [mode.title]
        for count in vcpus:
            cost = figures.cost(backing.name, mode.name, count)
            other = figures.cost(backing.name, 'userfaultfd', count)
            if cost and other:
                row.append(f'{cost:,.0f} ({cost / other:.2f})')
        if len(row) > 1:
            rows.append(row)
    return table(['who resolves'] + [counted(n, 'vCPU') for n in vcpus], rows)


def switch_table(figures: Figures, backing: Memory, vcpus: List[int]) -> str:
    """Context switches a page."""
    rows = []
    for mode in RESOLVERS.values():
        row = [mode.title]
        for count in vcpus:
            if seen := figures.get(backing.name, mode.name, count):
                switches = seen['voluntary'] + seen['involuntary']
                row.append(f"{switches / seen['pages']:.2f}")
        if len(row) > 1:
            rows.append(row)
    return table(['who resolves'] + [counted(n, 'vCPU') for n in vcpus], rows)


def call_table(calls: List[Record]) -> str:
    """System calls a page, by name, as far as they come with pages."""
    names = sorted({name for mode in calls for name in mode['calls']
                    if mode['calls'][name] >= mode['pages'] / 100})
    rows = [[RESOLVERS[mode['mode']].title] +
            [f"{mode['calls'].get(name, 0) / mode['pages']:.2f}"
             for name in names] for mode in calls]
    return table(['who resolves'] + [f'`{name}`' for name in names], rows)


def plain_table(patched: Figures, base: Figures) -> str:
    """Both kernels side by side."""
    rows = []
    for backing, mode, vcpus in base.runs:
        before = base.cost(backing, mode, vcpus)
        after = patched.cost(backing, mode, vcpus)
        if before and after:
            rows.append([f"{backing}; {RESOLVERS[mode].title}; "
                         f"{counted(vcpus, 'vCPU')}",
                         f'{before:,.0f}', f'{after:,.0f}',
                         f'{round(after - before):+,} '
                         f'({(after / before - 1) * 100:+.2f} %)'])
    return table(['memory; who resolves', 'without the series',
                  'with it, flag off', 'difference'], rows)


def hugetlb_table(runs: List[Record]) -> str:
    """What a vCPU waits for on hugetlb."""
    rows = []
    for run in runs:
        figures = run['numbers'][0]
        faults = figures['exits'] or figures['pages'] // 512
        rows.append([RESOLVERS[run['mode']].title,
                     '4K' if figures['exits'] else '2M', f'{faults:,}',
                     f"{figures['ns'] / faults:,.0f}",
                     f"{figures['ns'] / figures['pages']:,.0f}"])
    return table(['who resolves', 'granule', 'faults',
                  'instructions a fault', 'instructions a 4K page'], rows)


def ratio_range(figures: Figures, mode: str) -> str:
    """The best and the worst of a mode against userfaultfd."""
    ratios = []
    for backing, name, vcpus in figures.runs:
        cost = figures.cost(backing, mode, vcpus)
        other = figures.cost(backing, 'userfaultfd', vcpus)
        if name == mode and cost and other:
            ratios.append((cost / other,
                           f"{backing}, {counted(vcpus, 'vCPU')}"))
    (least, where_least), (most, where_most) = min(ratios), max(ratios)
    return f'{least:.2f} ({where_least}) to {most:.2f} ({where_most})'


def spread_text(figures: Figures) -> str:
    """How well two boots agree."""
    spread = figures.spread()
    median = spread[len(spread) // 2][0]
    worst = '; '.join(f'{share * 100:.2f} % ({where})'
                      for share, where in spread[:3])
    return (f'{len(spread)} runs in two boots; they differ by '
            f'{median * 100:.3f} % in the median, and at most by {worst}.')


REPORT = '''\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Generated by bench/demand-paging; change that, not this. -->
# What a missing page costs

A guest touches pages one after the other that are not there. Each has to be
caught, filled and let go. This is what that costs the host, from the guest's
access to its retry, with userfaultfd and with KVM userfault. There is no
network here: a page's way over it comes on top, and is the same for both.

`bench/demand-paging` measures this and writes this page. Linux {release},
`demand_paging_test` of the series' selftests, {megabytes} MB in all, shared
out among the vCPUs, each page of 4K written once by its vCPU.

* **nobody**: no page is held back; the kernel gives a zeroed page, or maps the
  one that is there. What the others cost above this is the price of postcopy.
* **userfaultfd**: a thread for each vCPU waits for its faults and places pages
  with `UFFDIO_COPY`. With minor faults the page is in the page cache already
  and `UFFDIO_CONTINUE` maps it.
* **KVM userfault**: the vCPU's own thread leaves `KVM_RUN`, copies the page as
  `UFFDIO_COPY` does (`rep movsq`), clears its bit and runs the vCPU again.
  *Untouched memory* has no page until that copy; *memory has pages* is as
  after a precopy pass that discards nothing.
* **both**: the vCPU leaves `KVM_RUN` and its thread places the page with
  userfaultfd, which also guards the memory against all who are not vCPUs.

## How, and what that means

The clock of the emulated host counts instructions (`host/run --icount`). A
number below is what the processor executes for a page, in guest, kernel and
userspace together. What caches, TLB misses and a world switch cost on real
hardware is not in it, nor what it takes to wake another processor. So the
numbers compare amounts of work; they are neither times nor rates of any real
machine.

There is one emulated processor. With more vCPUs their threads take turns:
contention is **not timed**, no lock is ever waited for by two processors, and
a column for more vCPUs shows only what taking turns adds. What processors
would contend for is counted instead: context switches and system calls.

The test's userfaultfd handler, which *both* uses too, asks for the time twice
and for its thread's number once a page, for messages that are compiled out.
That is upstream's, was left as it is, and is in userfaultfd's numbers.

{spread}

## Instructions a page

In brackets: the share of what userfaultfd needs with the same memory and as
many vCPUs; less than 1 is cheaper.

{costs}
Over all of these, as shares of userfaultfd's:

* KVM userfault on untouched memory: {ratio_untouched}
* KVM userfault on memory that has pages: {ratio_present}
* both: {ratio_both}

Where nobody resolves, memory with huge pages takes one fault for 512 pages.
userfaultfd and KVM userfault take one for each 4K. KVM userfault copies into
the huge page that the host gave at the first touch; with userfaultfd the host
has small pages.

## Context switches a page

Anonymous memory, from `getrusage()`. The few that starting the threads takes
are in it.

{switches}
## System calls a page

One vCPU, anonymous memory, counted by `strace -f -c` with two sizes: the
difference, by page. `KVM_RUN` is an `ioctl`, and so is what places a page with
userfaultfd. `gettid` is the test's own, see above.

{calls}
## With the flag off

The same test on the kernel without the series and on the patched one, where no
slot has `KVM_MEM_USERFAULT`. Instructions a page.

{plain}
Patched kernel: {spread_patched}

Kernel without the series: {spread_base}

## hugetlb

One vCPU, pages of 2M. userfaultfd can only place the whole of one, and its
first access waits for 2M to arrive; KVM userfault lets go of each 4K. The
instructions are those without the network, where the copy of 2M counts for
little.

{hugetlb}'''


def report(data: Record) -> str:
    """The report on the numbers."""
    figures = Figures(data['table'])
    patched, base = (Figures(data['plain'][name])
                     for name in ('patched', 'base'))
    vcpus = data['vcpus']
    costs = '\n'.join(f'### {backing.title.capitalize()}\n\n'
                      f'{cost_table(figures, backing, vcpus)}'
                      for backing in MEMORIES.values())
    return REPORT.format(
        release=data['releases'][data['kernel']],
        megabytes=data['megabytes'],
        spread=spread_text(figures), costs=costs,
        ratio_untouched=ratio_range(figures, 'userfault'),
        ratio_present=ratio_range(figures, 'userfault, present'),
        ratio_both=ratio_range(figures, 'both'),
        switches=switch_table(figures, MEMORIES['anonymous'], vcpus),
        calls=call_table(data['calls']),
        plain=plain_table(patched, base),
        spread_patched=spread_text(patched), spread_base=spread_text(base),
        hugetlb=hugetlb_table(data['hugetlb']))


def work() -> int:
    """Measure, write the numbers, write the report."""
    args = parse_args()
    if not args.only_report:
        data = collect(Setup(args.test, args.kernel, args.base_kernel,
                             args.size, args.vcpus))
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(data, indent=1) + '\n',
                             encoding='utf-8')
    if not args.json.exists():
        raise Failure(f'there is no {args.json}; leave out --only-report')
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(report(json.loads(
        args.json.read_text(encoding='utf-8'))), encoding='utf-8')
    print(f'{args.json}\n{args.report}')
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
