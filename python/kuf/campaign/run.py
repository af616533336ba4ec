# SPDX-License-Identifier: GPL-2.0-or-later
"""
Draw migrations by postcopy, and all that can happen to them.

Each run draws from the seed a guest with a device, its memory and processors,
capabilities, a link, the moment of the switch, and faults: where the link
breaks and how, processes and threads that stand still, a guest that is stopped,
monitors that are asked all the time, a host that moves memory about or pages it
out, packets that get lost.  They run in emulated hosts, some in each, and a
guest is migrated several times as long as nothing fails.  The guest checks all
that it reads; in half of the runs memory that is missing is out of reach for
QEMU itself.

There are three ways for a run to end well: the migration is over, it was
recovered, or the source runs on.  Prints one line a run; what there is to know
of one that has failed is kept in --output, and --seed with --first repeats it.
The exit status is 0 if none has failed.
"""

import argparse
import json
from pathlib import Path
import re
import subprocess
import sys
import time
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Optional,
)

from kuf import cli, inside
from kuf.build import stamp, stock_kernel
from kuf.campaign import inside as here
from kuf.campaign.hosts import APPEND
from kuf.campaign.plan import draw
from kuf.campaign.results import by_seed, load
from kuf.cli import positive
from kuf.paths import (
    BUILD,
    RESULTS,
    TOP,
    require,
)
from kuf.published import publish_more


PROG = 'host/campaign'
LAUNCHER = TOP / 'host/campaign'
# As kuf.devices.cases tells of one.
ERROR = re.compile(r'# [A-Z]\w+: ')
# Runs in one host: to boot it takes as long as one of them.
TOGETHER = 10


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    add = parser.add_argument
    add('--seed', metavar='S', type=int, default=0,
        help='what all is drawn from [0]')
    add('--first', metavar='N', type=int, default=0,
        help='begin with this run of the seed [0]')
    add('--runs', metavar='N', type=positive,
        help='so many of them [10, or as many as the time allows]')
    add('--time', metavar='S', type=positive,
        help='begin no run after so many seconds')
    add('--kernel', metavar='NAME', default=stock_kernel.PATCHED,
        help=f'kernel of host/run [{stock_kernel.PATCHED}]')
    add('--qemu', metavar='FILE', type=Path,
        help='another one than build/qemu has')
    add('--fail-fast', action='store_true',
        help='end with the first run that has failed')
    add('--smp', metavar='N', type=positive, default=2,
        help="the host's processors [2]")
    add('--output', metavar='DIR', type=Path, default=RESULTS / 'campaign',
        help='for the results, and the logs of what failed '
        '[build/results/campaign]')
    add('--publish', action='store_true',
        help='run nothing: bring docs/reliability.md up to date with all '
        'results in --output, beside those of other seeds that it has')
    add('--verbose', action='store_true', help='show all logs')
    inside.add_option(parser)
    args = parser.parse_args()
    if args.runs is None:
        args.runs = sys.maxsize if args.time else TOGETHER
    return args


class Run:
    """One run, as it is told."""

    def __init__(self, seed: int, number: int):
        self.plan = draw(seed, number)
        self.log: List[str] = []
        self.outcome: Optional[str] = None
        self.seconds = 0.0

    def record(self) -> Dict[str, Any]:
        """What is kept."""
        return {'seed': self.plan.seed, 'number': self.plan.number,
                'plan': str(self.plan), 'with': self.plan.features(),
                'happened': self.plan.happens(),
                'outcome': self.outcome, 'seconds': self.seconds,
                **({} if self.outcome else {'why': self.why()})}

    def why(self) -> str:
        """What is said of it where it has failed."""
        errors = [line for line in self.log if ERROR.match(line)]
        return (errors or self.log or [''])[0].removeprefix('# ').strip()

    def line(self) -> str:
        """What is shown."""
        number = f'{self.plan.seed}/{self.plan.number}'
        return (f"{'ok' if self.outcome else 'FAILED':6} {number}: "
                f"{self.plan}: {self.outcome or 'see its log'}; "
                f'{self.seconds:.0f} s')


def in_host(args: argparse.Namespace, first: int, count: int,
            seconds: int) -> Iterator[Run]:
    """Some runs in one host; the last one has failed if that has died."""
    command = [str(TOP / 'host/run'), '--smp', str(args.smp), '--kernel',
               args.kernel, '--append', APPEND, '--timeout',
               str(600 * count), '--',
               *inside.command(LAUNCHER, '--seed', str(args.seed), '--first',
                               str(first), '--runs', str(count),
                               *(['--time', str(seconds)] if seconds else []),
                               *(['--qemu', str(args.qemu.resolve())]
                                 if args.qemu else []),
                               *(['--fail-fast'] if args.fail_fast else []),
                               *(['--verbose'] if args.verbose else []))]
    run: Optional[Run] = None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace') as process:
        assert process.stdout
        for line in process.stdout:
            if args.verbose:
                print(line, end='')
            if not line.startswith(here.MARK):
                if run:
                    run.log.append(line)
                continue
            message = json.loads(line[len(here.MARK):])
            if 'starts' in message:
                if run:
                    yield run
                run = Run(args.seed, message['starts'])
            elif run:
                run.outcome = message['outcome']
                run.seconds = message['seconds']
    if not run and not process.returncode:
        return
    run = run or Run(args.seed, first)
    if process.returncode:
        # The host's end says something about the last one.
        run.outcome = None
        run.log.append(f'the host has ended with status {process.returncode}')
    yield run


def keep(folder: Path, run: Run) -> None:
    """All that there is to know of one that has failed."""
    path = folder / f'{run.plan.seed}-{run.plan.number}.log'
    path.write_text(f'{run.line()}\n' + ''.join(run.log), encoding='utf-8')
    print(f'       {path}', flush=True)


def outside(args: argparse.Namespace) -> int:
    """As many as were asked for."""
    require(BUILD / 'guest/initramfs.cpio', 'the guest', 'make')
    args.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    number, last = args.first, args.first + args.runs
    runs: List[Run] = []
    left = args.time or 0
    while number < last and left >= 0:
        before = number
        for run in in_host(args, number, min(TOGETHER, last - number), left):
            runs.append(run)
            print(run.line(), flush=True)
            number = run.plan.number + 1
            if run.outcome is None:
                keep(args.output, run)
            stamp.write(args.output / f'{args.seed}-{args.first}.json',
                        json.dumps([run.record() for run in runs], indent=1))
        if number == before or args.fail_fast and runs[-1].outcome is None:
            break
        if args.time:
            left = int(args.time - (time.monotonic() - began)) or -1
    failed = sum(run.outcome is None for run in runs)
    print(f'{len(runs)} runs, {failed} failed')
    return int(failed > 0 or not runs)


def publish_all(args: argparse.Namespace) -> int:
    """All runs of which there are results, as a document."""
    publish_more('campaign', args.output, args.kernel,
                 by_seed(load(args.output)))
    return 0


def work() -> int:
    """Outside, or in a host."""
    args = parse_args()
    if args.publish:
        return publish_all(args)
    if args.inside:
        here.run_all(args)
        return 0
    return outside(args)


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
