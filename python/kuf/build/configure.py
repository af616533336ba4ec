# SPDX-License-Identifier: GPL-2.0-or-later
"""
Bring the base, lay the fork over it, and configure the build.
"""

import os
import re
import shutil
import sys
from typing import List

from kuf import cli
from kuf.build import (
    kernel,
    packages,
    qemu,
    series,
    stamp,
    tools,
)
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.log import Log
from kuf.build.project import Options, Project
from kuf.build.tree import Tree
from kuf.cli import Failure
from kuf.paths import TOP


USAGE = '''\
Usage: configure [options]

Brings QEMU and Linux from Debian's source packages, lays the fork over them
in build/src, and configures everything in build/.  Options that are not given
are those of the run before; a second run does only what has changed.

Options: [defaults in brackets after descriptions]

  --help                   print this message
  --no-install             do not install packages: list those that are missing
  --qemu-source=SOURCE     QEMU {qemu} as a directory or tarball; empty for
                           Debian's package again [Debian's package]
  --linux-source=SOURCE    Linux {linux}, likewise [Debian's package]
  --without-host           no Linux, for those who have a patched host
  --with-host              Linux and the emulated host [yes]

A source directory is copied, once for each name and version; to copy it again
after an edit, remove build/src/qemu or build/src/linux.'''

# What QEMU's and Linux's builds take in a path.
PATH_CHARACTERS = re.compile(r'[A-Za-z0-9/._+@~=-]*')

MEGABYTES = 3500


def _source(option: str, value: str) -> str:
    """A path made absolute, or empty for the package."""
    if value and not os.path.exists(value):
        raise Failure(f"{option}: '{value}' does not exist; give a source "
                      'directory or a tarball')
    return value and os.path.realpath(value)


def parse(args: List[str], options: Options) -> bool:
    """Take options over; returns whether packages may be installed."""
    install = True
    for arg in args:
        name, _, value = arg.partition('=')
        if arg == '--no-install':
            install = False
        elif arg in ('--without-host', '--with-host'):
            options.host = arg == '--with-host'
        elif arg.startswith('--qemu-source='):
            options.qemu_source = _source(name, value)
        elif arg.startswith('--linux-source='):
            options.linux_source = _source(name, value)
        else:
            raise Failure(f"unknown option '{arg}'; see configure --help")
    return install


def memory() -> int:
    """The machine's, in megabytes."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 20


def check_machine(project: Project) -> None:
    """What would go wrong much later."""
    if not PATH_CHARACTERS.fullmatch(str(project.top)):
        raise Failure(f"'{project.top}' has a character that QEMU's or Linux's"
                      " build can't take in a path; clone into another folder")
    if memory() < MEGABYTES:
        raise Failure(f'building needs {MEGABYTES} MB of memory and this '
                      f'machine has {memory()} MB')
    if not shutil.which('apt-get'):
        raise Failure('this is not a Debian machine (no apt-get); install what'
                      ' base/packages lists and use Debian 12 or 13')


def prepare_tree(project: Project, apt: Apt, name: str, source: str) -> None:
    """The base, with the overlay and the patches on top."""
    tree = Tree(project, name)
    tree.prepare(apt, source)
    tree.lay_overlay(tree.path)
    series.apply(tree)


def configure_project(project: Project, options: Options) -> None:
    """The one build graph of everything."""
    build = project.build
    meson = tools.meson(project)
    ninja = build / 'build.ninja'
    host = 'true' if options.host else 'false'
    kernels = ','.join(kernel.names(project))
    inputs = f'{project.top} {meson} {host} {kernels}'
    if ninja.exists() and stamp.is_at(build / '.inputs', inputs):
        return
    log = Log(project.log('meson'))
    with log.explains('meson failed'):
        log.run(meson, 'setup', *(['--reconfigure'] if ninja.exists() else []),
                f'-Dhost={host}', f'-Dkernels={kernels}', build, project.top)
    stamp.put(build / '.inputs', inputs)


def configure(project: Project, options: Options, install: bool) -> None:
    """All of it."""
    apt = Apt(project)
    packages.install(project, apt, install)
    tools.prepare(project, apt)
    prepare_tree(project, apt, 'qemu', options.qemu_source)
    if options.host:
        prepare_tree(project, apt, 'linux', options.linux_source)
    options.save(project)
    qemu.configure_once(project, project.build / 'src/qemu', project.build,
                        'QEMU')
    configure_project(project, options)


def _work() -> int:
    project = Project(TOP)
    args = sys.argv[1:]
    if '--help' in args or '-h' in args:
        print(USAGE.format(qemu=Base(project, 'qemu').line,
                           linux=Base(project, 'linux').line))
        return 0
    options = Options.load(project)
    install = parse(args, options)
    check_machine(project)
    with stamp.lock(project.build / '.lock',
                    f'another configure runs in {project.build}; wait for it '
                    'to end'):
        configure(project, options, install)
    return 0


def main() -> int:
    """The program."""
    return cli.run('configure', _work)
