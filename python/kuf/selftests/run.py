# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run KVM selftests in emulated hosts and say how they ended.

  host/selftests NAME...            these, on the patched kernel
  host/selftests --series           the series' own: each has to pass
  host/selftests --same             every other test: each has to end with the
                                    series as it does without

This drives host/run from outside.  In the host it starts itself (--inside),
which runs one test after the other: one boot serves many tests, and which one
took the host down is known.  A test of which the host's kernel complains
(panic, oops, warning) has failed; the rest go on in a new host.

How a test ends without the series is kept until the kernel, QEMU, the test or
this file changes.  One that ends in another way with the series is run three
times more on either side, and has failed if it ends only there in that way.

Output is TAP, one line a test; build/results/selftests has it as JSON.
"""

import argparse
from pathlib import Path

from kuf import cli, inside
from kuf.emulators import EMULATORS
from kuf.paths import SELFTESTS
from kuf.selftests.cases import (
    base_cases,
    cases_of,
    check_names,
    series_cases,
)
from kuf.selftests.expect import have_to_agree, have_to_pass
from kuf.selftests.inside import run_job
from kuf.selftests.target import Target


PROG = 'host/selftests'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--series', action='store_true',
                        help="the series' own tests, and of what it touches")
    parser.add_argument('--same', action='store_true',
                        help='compare with a kernel without the series: all '
                        'tests that are not its own, or NAME')
    parser.add_argument('--kernel', metavar='NAME', default='default',
                        help='kernel of host/run [default]')
    parser.add_argument('--without', metavar='NAME', default='base',
                        help='the base kernel, for --same [base]')
    parser.add_argument('--emulator', choices=EMULATORS, default='tcg',
                        help="the host's processor is AMD's in tcg, Intel's "
                        'in bochs [tcg]')
    parser.add_argument('--mode', metavar='MODE', default='tdp',
                        help='how KVM works, above all how it maps memory '
                        '[tdp]: ' + '; '.join(
                            f"{name}: {', '.join(emulator.modes)}"
                            for name, emulator in EMULATORS.items()))
    parser.add_argument('--smp', metavar='N', type=int, default=1,
                        help="the host's processors [1]")
    parser.add_argument('--append', metavar='ARGS', default='',
                        help="more for the kernel's command line")
    parser.add_argument('--tests', metavar='DIR', type=Path,
                        default=SELFTESTS,
                        help='where the tests are [build/selftests]')
    inside.add_option(parser)
    parser.add_argument('names', metavar='NAME', nargs='*',
                        help="a test, or 'NAME ARGUMENTS' as one word")
    args = parser.parse_args()
    args.tests = args.tests.resolve()
    if args.mode not in EMULATORS[args.emulator].modes:
        parser.error(f"--emulator {args.emulator} has no mode '{args.mode}'; "
                     'see --help')
    if not (args.inside or args.series or args.same or args.names):
        parser.error('give the names of tests, --series or --same')
    return args


def work() -> int:
    """Run what was asked for."""
    args = parse_args()
    if args.inside:
        run_job()
        return 0
    target = Target(args.kernel, args.mode, args.tests, args.smp,
                    args.emulator, args.append)
    check_names(args.tests, args.names)
    cases = [case for name in args.names for case in cases_of(name)]
    if args.same:
        good = have_to_agree(target._replace(kernel=args.without), target,
                             cases or base_cases(args.tests))
    else:
        good = have_to_pass(target, cases or series_cases(args.tests))
    return not good


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
