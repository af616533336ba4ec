# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run a command in the emulated Intel host.

Boots Linux with the kernel series on Bochs, which emulates VMX, and runs
COMMAND there as root.  Bochs has no way into the caller's file system: COMMAND
finds busybox, the files of --with, with the libraries that they need, and
standard input, which is read to its end before.  Standard output is the
caller's.  The exit status is as of host/run.

Time counts instructions there, whatever else this machine does.
"""

import argparse
from pathlib import Path
import signal

from kuf import cli
from kuf.host import arguments, status
from kuf.host.bochs import BochsHost


PROG = 'host/intel/run'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    arguments.add_host(parser, memory='2G', smp=1, smp_help='processors [1]')
    parser.add_argument('--timeout', metavar='S', type=float,
                        default=arguments.TIMEOUT,
                        help='seconds until the host is given up, 0 for '
                        f'never [{arguments.TIMEOUT}]')
    parser.add_argument('--with', metavar='PATH', dest='files', type=Path,
                        action='append', default=[],
                        help='a file that COMMAND finds at the same place')
    return arguments.parse(parser)


def work() -> int:
    """Run it."""
    args = parse_args()
    return BochsHost(arguments.job_of(PROG, args), args.files).run()


def main() -> int:
    """The program."""
    return cli.run(PROG, work, failed=status.FAILED, also=[signal.SIGPIPE])
