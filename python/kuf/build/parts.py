# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is built beside QEMU itself, each by its own build system, which knows what
is out of date.
"""

import argparse
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Mapping,
    NamedTuple,
)

from kuf import cli
from kuf.build import (
    bochs,
    deb_kvm,
    debian,
    guest,
    initramfs,
    installed,
    kernel,
    kvm,
    mistakes,
    qemu,
    qemu_asan,
    qemu_packages,
    selftests,
    stock,
    stock_kernel,
)
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


class Part(NamedTuple):
    """Something that is built: what it is, and how."""

    what: str
    build: Callable[[Project, argparse.Namespace], object]
    # What comes after its name on the command line.
    takes: Mapping[str, Mapping[str, Any]] = {}


def _kernel(project: Project, args: argparse.Namespace) -> None:
    if args.name in stock_kernel.NAMES:
        if args.source or args.output:
            raise Failure(f"kernel '{args.name}' is Debian's and is built "
                          'nowhere; leave --source and --output out')
        stock_kernel.build(project, args.name)
        return
    kernel.build(kernel.Variant(project, args.name), args.source, args.output)


def _kvm(project: Project, args: argparse.Namespace) -> None:
    kvm.build(project, args.arch, args.source, args.output)


def _selftests(project: Project, args: argparse.Namespace) -> None:
    selftests.build(project, args.source, args.output)


def _path(text: str) -> Path:
    return Path(text).resolve()


TREE = {'--source': {'type': _path, 'metavar': 'DIR',
                     'help': 'a Linux tree other than build/src/linux'},
        '--output': {'type': _path, 'metavar': 'DIR',
                     'help': 'where to build instead'}}

PARTS: Dict[str, Part] = {
    'qemu': Part(
        'QEMU with the fork, or others of the targets that its build has',
        lambda project, args: qemu.build(project, args.targets),
        {'targets': {'metavar': 'TARGET', 'nargs': '*',
                     'default': ['qemu-system-x86_64']}}),
    'kernel': Part(
        "a kernel of the emulated host: one of host/configs, or base and "
        'base-NAME for those without the series; stock and base-stock: '
        "Debian's own, with the series' KVM and without", _kernel,
        {'name': {'metavar': 'NAME'}, **TREE}),
    'kvm': Part(
        "KVM's common code for an architecture that nobody runs here", _kvm,
        {'arch': {'choices': list(kvm.CROSS)}, **TREE}),
    'selftests': Part("the KVM selftests", _selftests, TREE),
    'initramfs': Part(
        'the first userspace of the emulated host',
        lambda project, args: initramfs.build(project, args.file),
        {'file': {'type': _path, 'metavar': 'FILE'}}),
    'bochs': Part('the emulator of the Intel host',
                  lambda project, args: bochs.build(project)),
    'base-qemu': Part('QEMU without the fork',
                      lambda project, args: qemu.build_base(project)),
    'qemu-asan': Part('QEMU with the fork, for AddressSanitizer',
                      lambda project, args: qemu_asan.build(project)),
    'qemu-mistake': Part(
        'QEMU with a mistake in it, to see that tests notice',
        lambda project, args: mistakes.build(project, args.name),
        {'name': {'choices': list(mistakes.MISTAKES)}}),
    'deb-qemu': Part('QEMU with the fork as Debian packages, in build/deb; '
                     'needs root',
                     lambda project, args: qemu_packages.build(project)),
    'stock-qemu': Part("Debian's own build of QEMU",
                       lambda project, args: stock.build(project)),
    'deb-kvm': Part("the package with KVM for Debian's stock kernel",
                    lambda project, args: deb_kvm.build(project)),
    **{name: Part(f'{what} in a folder, for tests; needs root',
                  lambda project, args: debian.build(project, args.part))
       for name, (what, _) in debian.DEBIANS.items()},
    installed.NAME: Part('one with the packages that are made here',
                         lambda project, args: installed.build(project)),
    **{name: Part(f"a guest that is migrated, with the kernel in "
                  f'base/{kind.base}',
                  lambda project, args: guest.build(project, args.part))
       for name, kind in guest.GUESTS.items()},
}


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = cli.parser('scripts/build', 'Build a part of the project.')
    parts = parser.add_subparsers(dest='part', required=True, metavar='PART')
    for name, part in PARTS.items():
        sub = parts.add_parser(name, help=part.what)
        for argument, how in part.takes.items():
            sub.add_argument(argument, **how)
    return parser.parse_args()


def _work() -> int:
    args = arguments()
    PARTS[args.part].build(Project(TOP), args)
    return 0


def main() -> int:
    """The program."""
    return cli.run('scripts/build', _work)
