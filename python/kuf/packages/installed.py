# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian 13 with Debian's QEMU and, beside it, that of the packages.
"""

from pathlib import Path
from typing import List

from kuf.build import deb, debian, stamp
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.build.qemu_packages import PACKAGE
from kuf.cli import Failure
from kuf.packages.abilities import Run
from kuf.paths import require


NAME = 'debian-13-both'
STOCK = 'qemu-system-x86_64'
# Debian's with all of its parts; and what tests call there.
BESIDE = ('qemu-system-x86', 'qemu-system-gui', 'qemu-block-extra',
          'qemu-system-modules-opengl', 'qemu-system-modules-spice')
TOOLS = ('adduser', 'procps', 'socat', 'udev')


def packages(project: Project) -> List[Path]:
    """Those that were built."""
    folder = require(deb.folder(project), PACKAGE, 'make deb')
    found = sorted(folder.glob(f'{PACKAGE}*.deb'))
    if len(found) != 2:
        raise Failure(f"'{folder}' has {len(found)} packages of {PACKAGE} and "
                      'not two; build them with: make deb')
    return found


def checked(tree: debian.Tree, *command: str) -> str:
    """Run a command there, which must succeed; returns what it prints."""
    done = tree.run(*command)
    if done.returncode:
        raise Failure(f"'{' '.join(command)}' failed in {tree.root}: "
                      f'{done.stdout[-2000:]}')
    return str(done.stdout)


def put(tree: debian.Tree, files: List[Path]) -> List[str]:
    """Copy files to its /tmp; returns their names there."""
    for path in files:
        with open(path, 'rb') as content:
            if tree.run('sh', '-c', 'cat >"$1"', 'sh', f'/tmp/{path.name}',
                        stdin=content).returncode:
                raise Failure(f"'{path}' can't be copied to {tree.root}")
    return [f'/tmp/{path.name}' for path in files]


def build(project: Project) -> debian.Tree:
    """Have it, with the packages as they are now."""
    files = packages(project)
    tree = debian.Tree(project, NAME)
    inputs = stamp.checksum(Path(__file__), Path(debian.__file__), *files)
    with stamp.lock(project.build / f'.{NAME}.lock'):
        if not tree.is_of(inputs):
            tree = debian.build(project).copy(NAME)
            checked(tree, 'apt-get', '-q', 'update')
            checked(tree, 'apt-get', '-q', '-y', '--no-install-recommends',
                    'install', *BESIDE, *TOOLS, *put(tree, files))
            tree.done(inputs)
    return tree


def runner(tree: debian.Tree, program: str) -> Run:
    """Runs one of the two there, as a user without rights."""
    def run(args: List[str], said: str) -> str:
        done = tree.run(
            'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups',
            '--', program, *args, stdin=None, input=said)
        return str(done.stdout)
    return run


def both(project: Project) -> 'tuple[Run, Run]':
    """Ours and Debian's."""
    tree = build(project)
    return runner(tree, PROGRAM), runner(tree, STOCK)
