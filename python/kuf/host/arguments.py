# SPDX-License-Identifier: GPL-2.0-or-later
"""
The command line of programs that run a command in a host.
"""

import argparse
import os
from typing import Optional

from kuf import cli
from kuf.host.job import Job


# Seconds, if the caller does not say.
TIMEOUT = 1800


def two_processors() -> int:
    """Two, or one where this machine has no second."""
    return min(2, len(os.sched_getaffinity(0)))


def add_host(parser: argparse.ArgumentParser, *, memory: str,
             smp: Optional[int], smp_help: str) -> None:
    """
    What all hosts have.

    @param smp: the number of processors, None if that depends
    """
    parser.add_argument('--kernel', metavar='NAME', default='default',
                        help="variant in host/configs, or stock for Debian's "
                        'own with the patched KVM [default]')
    parser.add_argument('--smp', metavar='N', type=int, default=smp,
                        help=smp_help)
    parser.add_argument('--mem', metavar='SIZE', type=cli.megabytes,
                        default=memory,
                        help=f"the host's memory [{memory}]")
    parser.add_argument('--append', metavar='ARGS', default='',
                        help="more for the kernel's command line")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; COMMAND is all that follows the options."""
    parser.add_argument('command', metavar='COMMAND', nargs='+')
    args = parser.parse_args()
    if args.smp is not None and args.smp < 1:
        parser.error('--smp takes a number from 1')
    return args


def job_of(prog: str, args: argparse.Namespace) -> Job:
    """The job that was asked for."""
    return Job(prog, args.command, args.kernel, args.smp, args.mem,
               args.append, args.timeout)
