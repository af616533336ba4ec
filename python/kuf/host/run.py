# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run a command in the emulated patched host.

Boots Linux with the kernel series on the freshly built QEMU, under TCG with
nested SVM, and runs COMMAND there as root in the caller's file system: read
only underneath, writes go to memory and are gone afterwards, except in one
folder that is written through.  Standard streams, working directory and
environment are the caller's.  The exit status is COMMAND's, or:

  124  COMMAND ran longer than --timeout
  125  host/run could not start the host, or the host's kernel complained
       (panic, oops, warning); its log is shown
  127  COMMAND was not found
"""

import argparse
import os
from pathlib import Path
import signal
import sys

from kuf import cli
from kuf.host import arguments, status
from kuf.paths import QEMU_PACKAGES, RESULTS, require


PROG = 'host/run'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    arguments.add_host(
        parser, memory='4G', smp=None,
        smp_help='processors [2; 1 with --icount, or if this machine has no '
        'more]')
    parser.add_argument('--icount', action='store_true',
                        help='the clock counts instructions: 1 is 1 ns, '
                        'whatever else this machine does')
    parser.add_argument('--timeout', metavar='S', type=float, default=None,
                        help='seconds until the host is given up, 0 for '
                        f'never [{arguments.TIMEOUT}, or never on a '
                        'terminal]')
    parser.add_argument('--writable', metavar='DIR', type=Path,
                        default=RESULTS,
                        help='the folder that is written through '
                        '[build/results]')
    args = arguments.parse(parser)
    if args.smp is None:
        args.smp = 1 if args.icount else arguments.two_processors()
    if args.icount and args.smp != 1:
        parser.error('--icount is a clock of one processor; leave --smp out')
    return args


def work() -> int:
    """Check what can be checked before, and run."""
    args = parse_args()
    writable: Path = args.writable.resolve()
    if not sys.stdin:  # closed by the caller
        sys.stdin = open(os.devnull, encoding='ascii')
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if args.timeout is None:
        args.timeout = 0 if terminal else arguments.TIMEOUT
    require(QEMU_PACKAGES, 'QEMU', 'make')
    # pylint: disable-next=import-outside-toplevel
    from kuf.host.tcg import TcgHost
    writable.mkdir(parents=True, exist_ok=True)
    return TcgHost(arguments.job_of(PROG, args), icount=args.icount,
                   writable=writable, terminal=terminal).run()


def main() -> int:
    """The program."""
    return cli.run(PROG, work, failed=status.FAILED, also=[signal.SIGPIPE])
