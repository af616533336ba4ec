# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrate a guest by postcopy, with KVM userfault and with userfaultfd.

Boots the emulated host, which has Debian's stock kernel with the patched KVM as
modules, and in it a Linux guest that writes to its memory, its disk and its
network and checks all that it reads.  The guest moves from one QEMU to the
next, each time in another mode, and what that costs is measured.  Prints one
screen, and writes report.json, report.html and logs to --output.  The exit
status is 0 if all migrations went well and all memory was right.

With --no-host all of it runs on this machine, which needs a kernel with the
series, /dev/kvm, and root's rights for some of the counters.
"""

import argparse
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import List

from kuf import cli, inside, process
from kuf.architectures import native
from kuf.build import stock_kernel
from kuf.cli import Failure, positive
from kuf.demo.scenario import Scenario
from kuf.guest.backing import BACKINGS, fitting
from kuf.modes import MODES
from kuf.paths import BUILD, TOP
from kuf.report.figures import verdict
from kuf.report.page import html
from kuf.report.report import load
from kuf.report.screen import summary


PROG = 'demo/run'


def modes(text: str) -> List[str]:
    """Modes with commas between them, or all."""
    names = list(MODES) if text == 'all' else text.split(',')
    for name in names:
        if name not in MODES:
            raise argparse.ArgumentTypeError(
                f"'{name}' is not one of: {', '.join(MODES)}, all")
    return names


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """What is migrated, and how."""
    add = parser.add_argument
    add('--modes', type=modes, metavar='MODE,...',
        default=['userfaultfd', 'kvm-userfault'],
        help=f"of: {', '.join(MODES)}; or all [userfaultfd,kvm-userfault]")
    add('--rounds', type=positive, default=1, metavar='N',
        help='how often each mode has its turn, in alternating order [1]')
    add('--vcpus', type=positive, default=1, metavar='N',
        help="the guest's processors [1]")
    add('--threads', type=positive, default=2, metavar='N',
        help='that work on memory there [2]')
    add('--memory', type=positive, default=128, metavar='MB',
        help="the guest's memory [128]")
    add('--own', type=positive, default=8, metavar='MB',
        help='what each thread works on alone [8]')
    add('--shared', type=positive, default=4, metavar='MB',
        help='what all threads work on [4]')
    add('--order', choices=['random', 'sequential'], default='random',
        help='in which pages are visited [random]')
    add('--write', type=int, choices=range(101), default=90,
        metavar='PERCENT',
        help='how many visits write; all read and check [90]')
    add('--no-async-page-faults', action='store_false',
        dest='async_page_faults', help="the guest's tasks wait with their "
        'vCPU for what userfaultfd brings')
    add('--backing', choices=list(BACKINGS),
        default='thp', help="what the guest's memory is in the host [thp]")
    add('--bandwidth', type=positive, default=8, metavar='MB',
        help='of precopy, a second; with a lot, the second pass may be over '
        'before the switch to postcopy [8]')
    add('--postcopy-bandwidth', type=int, default=4, metavar='MB',
        help='of background pages, which were not requested, a second; 0: '
        'unlimited [4]')
    add('--rtt', type=int, default=0, metavar='US',
        help='network round trip in microseconds, by netem between two '
        'network namespaces; 0: a socket [0]')


def scenario_of(args: argparse.Namespace) -> Scenario:
    """What is asked for."""
    return Scenario(
        modes=args.modes, rounds=args.rounds, vcpus=args.vcpus,
        memory=args.memory, threads=args.threads, own=args.own,
        shared=args.shared, order=args.order, write=args.write,
        async_page_faults=args.async_page_faults, backing=args.backing,
        bandwidth=args.bandwidth, rtt=args.rtt,
        postcopy_bandwidth=args.postcopy_bandwidth,
        output=args.output.resolve(), qemu=args.qemu, source=args.source,
        emulated=args.inside, icount=args.icount,
        live=args.live or sys.stdout.isatty())


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    add_scenario(parser)
    add = parser.add_argument
    add('--output', type=Path, default=BUILD / 'demo', metavar='DIR',
        help='where the report goes [build/demo]')
    add('--qemu', type=Path, default=native().qemu, metavar='FILE',
        help='what the guest runs in [build/qemu/qemu-system-x86_64]')
    add('--source', type=Path, metavar='FILE',
        help='another QEMU, in which a guest is started for each migration '
        '[one guest goes from each QEMU to the next]')
    add('--no-host', action='store_true',
        help='on this machine, without emulation')
    add('--kernel', metavar='NAME', default=stock_kernel.PATCHED,
        help="the emulated host's, as host/run has them "
        f'[{stock_kernel.PATCHED}]')
    add('--icount', action='store_true',
        help="the emulated host's clock counts instructions")
    add('--host-cpus', type=positive, default=1, metavar='N',
        help="the emulated host's processors; what is kept of other runs was "
        'measured on one [1]')
    add('--host-memory', default='4G', metavar='SIZE',
        help='of the emulated host [4G]')
    add('--timeout', type=int, default=1500, metavar='S',
        help='seconds until the emulated host is given up [1500]')
    # In the emulated host: write the numbers, and no page; for a terminal.
    inside.add_option(parser)
    add('--live', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.no_host and args.icount:
        parser.error('--icount is about the emulated host; leave --no-host '
                     'out')
    if args.icount and args.host_cpus > 1:
        parser.error('--icount is a clock of one processor; leave --host-cpus '
                     'out')
    scenario = scenario_of(args)
    if scenario.needed > scenario.memory:
        parser.error(f'{args.threads} threads with {args.own} MB each and '
                     f'{args.shared} MB for all need a guest of '
                     f'{scenario.needed} MB; the guest has {args.memory} MB')
    if args.backing not in fitting(args.memory):
        parser.error(f"--backing {args.backing}: a guest's memory is pages of "
                     f'{BACKINGS[args.backing].huge} MB then, and {args.memory}'
                     ' MB are not; give it more --memory')
    return args


def check_parts(scenario: Scenario) -> None:
    """Is there what is needed?"""
    for option, qemu in (('--qemu', scenario.qemu),
                         ('--source', scenario.source)):
        if qemu and qemu != native().qemu and not os.access(qemu, os.X_OK):
            raise Failure(f"there is no program '{qemu}'; give one with "
                          f'{option}')
    for part, how in ((native().qemu, 'make'),
                      (BUILD / 'guest-cloud/initramfs.cpio',
                       'make guest-cloud')):
        if not part.exists():
            raise Failure(f'there is no {part.relative_to(TOP)}; build it '
                          f'with: {how}')


def prepare_output(output: Path) -> None:
    """A folder with nothing of an earlier run."""
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / 'logs', ignore_errors=True)
    (output / 'logs').mkdir()
    for name in ('report.json', 'report.html'):
        (output / name).unlink(missing_ok=True)


def measure_here(scenario: Scenario) -> None:
    """Migrate on this machine."""
    if not os.access('/dev/kvm', os.W_OK):
        raise Failure('/dev/kvm is not there, or not for this user; leave '
                      '--no-host out, or see to it')
    # QEMU's packages are only there once it is built.
    # pylint: disable-next=import-outside-toplevel
    from kuf.demo import engine
    (scenario.output / 'report.json').write_text(
        json.dumps(engine.measure(scenario), indent=1) + '\n',
        encoding='utf-8')


def measure_in_host(args: argparse.Namespace, scenario: Scenario) -> None:
    """Do it in the emulated host, by this program."""
    host = [str(TOP / 'host/run'), '--writable', str(scenario.output),
            '--kernel', args.kernel, '--mem', args.host_memory,
            '--timeout', str(args.timeout)]
    # Its clock is one of one processor.
    host += ['--icount'] if scenario.icount else ['--smp', str(args.host_cpus)]
    host += ['--', *inside.command(TOP / PROG)]
    if scenario.live:
        host.append('--live')
    # Not the terminal's keys: Ctrl-C is for this side, whatever runs in there.
    status = process.run([*host, *sys.argv[1:]], stdin=subprocess.DEVNULL,
                         env={**os.environ, 'COLUMNS': columns()})
    if status:
        raise Failure('nothing was measured; see above')


def columns() -> str:
    """The terminal's width, which can't be seen from in there."""
    return str(shutil.get_terminal_size().columns)


def show(output: Path) -> int:
    """Show what was measured."""
    data = load(output / 'report.json')
    (output / 'report.html').write_text(html(data), encoding='utf-8')
    print(summary(data))
    print(f'{output}/report.html')
    return int(not verdict(data).good)


def work() -> int:
    """Measure and report."""
    args = parse_args()
    scenario = scenario_of(args)
    check_parts(scenario)
    if args.inside:
        measure_here(scenario)
        return 0
    prepare_output(scenario.output)
    if args.no_host:
        measure_here(scenario)
    else:
        measure_in_host(args, scenario)
    return show(scenario.output)


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
