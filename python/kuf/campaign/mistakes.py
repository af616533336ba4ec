# SPDX-License-Identifier: GPL-2.0-or-later
"""
See that a campaign notices a mistake in QEMU.

For each MISTAKE, builds QEMU with it, and draws migrations until one fails: as
host/campaign does, and of the same seed the same ones.  The exit status is 0 if
all mistakes were noticed.

    host/mistakes --publish

brings docs/reliability.md up to date with what has run.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Dict

from kuf import cli, process
from kuf.build import mistakes, stamp, stock_kernel
from kuf.build.mistakes import MISTAKES
from kuf.build.project import Project
from kuf.cli import Failure, positive
from kuf.paths import RESULTS, TOP
from kuf.published import publish_more


PROG = 'host/mistakes'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    add = parser.add_argument
    add('--seed', metavar='S', type=int, default=0,
        help='what migrations are drawn from [0]')
    add('--runs', metavar='N', type=positive, default=200,
        help='so many of them at most [200]')
    add('--output', metavar='DIR', type=Path, default=RESULTS / 'mistakes',
        help='for the results [build/results/mistakes]')
    add('--publish', action='store_true',
        help='run nothing: bring docs/reliability.md up to date with all '
        'results in --output, beside what it has')
    add('mistake', metavar='MISTAKE', nargs='*',
        help=f"of: {', '.join(MISTAKES)} [all]")
    args = parser.parse_args()
    for name in args.mistake:
        if name not in MISTAKES:
            parser.error(f"no mistake is called '{name}'; there are: "
                         f"{', '.join(MISTAKES)}")
    return args


def digest(folder: Path) -> Dict[str, Any]:
    """What is kept of a campaign that ended when it noticed, or did not."""
    files = [json.loads(path.read_text('utf-8'))
             for path in folder.glob('*.json')]
    if not files:
        raise Failure(f'no run has left anything in {folder}')
    runs = files[0]
    last = runs[-1]
    return {'runs': len(runs), 'noticed': last['outcome'] is None,
            # Without the kind of error.
            'why': last.get('why', '').partition(': ')[2],
            **{key: last[key] for key in ('seed', 'number', 'plan')}}


def look_for(name: str, args: argparse.Namespace) -> bool:
    """Whether that one is noticed."""
    print(f'{name}: {MISTAKES[name].what}', flush=True)
    qemu = mistakes.build(Project(TOP), name)
    output = args.output / name
    stamp.remove(output)
    process.run([TOP / 'host/campaign', '--fail-fast', '--qemu', qemu,
                 '--seed', str(args.seed), '--runs', str(args.runs),
                 '--output', output])
    found = digest(output)
    print(f"{name}: in run {found['runs']}: {found['why']}"
          if found['noticed'] else f'{name}: NOT NOTICED', flush=True)
    return bool(found['noticed'])


def publish_all(args: argparse.Namespace) -> int:
    """What has run, as a document."""
    publish_more('mistakes', args.output, stock_kernel.PATCHED, {
        name: digest(args.output / name) for name in MISTAKES
        if any((args.output / name).glob('*.json'))})
    return 0


def work() -> int:
    """What is asked for."""
    args = parse_args()
    if args.publish:
        return publish_all(args)
    noticed = [look_for(name, args) for name in args.mistake or MISTAKES]
    return int(not all(noticed))


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
