# SPDX-License-Identifier: GPL-2.0-or-later
"""
Prove that QEMU is compiled against the interface that the patched kernel has.

What the series adds to Linux's kvm.h is found in its commits; the compiler says
what it is worth in both.
"""

import argparse
from pathlib import Path
import re
import subprocess
import tempfile
from typing import Dict, List

from kuf import cli
from kuf.build import selftests
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


STRUCT = 'kvm_userspace_memory_region2'

HEADERS = ('include/uapi/linux/kvm.h', 'arch/x86/include/uapi/asm/kvm.h')

MACRO = re.compile(r'^\+[ \t]*#[ \t]*define[ \t]+([^\s(]+)([( \t])', re.M)

FIELD = re.compile(r'^[^/*\n]*\s(\w+)(?:\[[^]]*\])*;', re.M)


def macros(linux: Path) -> List[str]:
    """Those that the series adds, or gives another value."""
    found = MACRO.findall(Git(linux)('diff', '-U0', 'base', '--', *HEADERS))
    for name, after in found:
        if after == '(':
            raise Failure(f"the series adds '{name}' to kvm.h, a macro with "
                          'arguments; teach python/kuf/build/uapi.py to '
                          'compare it')
    return [name for name, _ in found]


def fields(header: str) -> List[str]:
    """Those of the struct, as they are declared."""
    body = re.search(rf'^struct {STRUCT} {{\n(.*?)^}}', header, re.M | re.S)
    return FIELD.findall(body[1]) if body else []


def program(names: List[str], members: List[str]) -> str:
    """C that prints what its headers say of each."""
    lines = ['#include <stddef.h>', '#include <stdio.h>',
             '#include <linux/kvm.h>', 'int main(void)', '{']
    for name in names:
        lines += [f'#ifdef {name}',
                  f'printf("{name} %#llx\\n", (unsigned long long)({name}));',
                  '#endif']
    lines.append(f'struct {STRUCT} s;')
    for member in members:
        lines.append(
            f'printf("{STRUCT}.{member} at %zu, %zu bytes\\n", '
            f'offsetof(struct {STRUCT}, {member}), sizeof(s.{member}));')
    lines += [f'printf("{STRUCT} %zu bytes\\n", sizeof(s));', 'return 0;', '}']
    return '\n'.join(lines) + '\n'


def ask(names: List[str], include: Path, work: Path,
        *more: Path) -> Dict[str, str]:
    """What the headers of a folder say of each thing."""
    header = include / 'linux/kvm.h'
    source, binary = work / 'ask.c', work / 'ask'
    source.write_text(program(
        names, fields(header.read_text(encoding='utf-8'))), encoding='utf-8')
    log = Log(work / 'log')
    with log.explains(f'{header} does not compile'):
        log.run('gcc', *(f'-isystem{folder}' for folder in (*more, include)),
                '-o', binary, source)
    printed = subprocess.run([binary], stdout=subprocess.PIPE, text=True,
                             check=True).stdout
    return dict(line.split(' ', 1) for line in printed.splitlines())


def compare(linux: Dict[str, str], qemu: Dict[str, str], header: str) -> None:
    """They say the same of the same things."""
    for thing, value in linux.items():
        if qemu.get(thing) != value:
            raise Failure(
                f"{thing} is '{value}' in Linux and "
                f"'{qemu.get(thing, 'missing')}' in QEMU's {header}; correct "
                'the patch in patches/ that changes this file, or the kernel '
                'series')
    for thing in qemu:
        if thing not in linux:
            raise Failure(f"{thing} is in QEMU's {header} and not in Linux; "
                          'correct the patch in patches/ that changes this '
                          'file')


def arguments() -> argparse.Namespace:
    """What is asked for."""
    build = TOP / 'build'
    parser = cli.parser('linux-headers/check-uapi', __doc__.strip())
    parser.add_argument('qemu', nargs='?', type=Path, metavar='QEMU_HEADERS',
                        default=build / 'src/qemu/linux-headers')
    parser.add_argument('linux', nargs='?', type=Path, metavar='LINUX')
    return parser.parse_args()


def _work() -> int:
    args = arguments()
    project = Project(TOP)
    linux = args.linux or project.build / 'src/linux'
    for folder in (args.qemu, linux):
        if not folder.is_dir():
            raise Failure(f"no '{folder}' to compare the headers of; run "
                          './configure')
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        headers = work / 'headers' if args.linux \
            else project.build / 'selftests-headers'
        selftests.headers(project, linux.resolve(), headers)
        # QEMU has its architectures' headers under names of their own.
        (work / 'qemu').mkdir()
        (work / 'qemu/asm').symlink_to(args.qemu.resolve() / 'asm-x86')
        names = macros(linux)
        compare(ask(names, headers / 'usr/include', work),
                ask(names, args.qemu, work, work / 'qemu'),
                f'{args.qemu}/linux/kvm.h')
    print(f"{cli.counted(len(names), 'macro')} and struct {STRUCT} are the "
          'same in QEMU and Linux')
    return 0


def main() -> int:
    """The program."""
    return cli.run('linux-headers/check-uapi', _work)
