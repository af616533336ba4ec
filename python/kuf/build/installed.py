# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian 13 where the packages that are made here are installed, as a user would
install them: build/debian-13-installed
"""

from pathlib import Path
import shutil

from kuf.build import deb_kvm, debian, stamp
from kuf.build.debian import Tree
from kuf.build.project import Project
from kuf.cli import Failure


NAME = 'debian-13-installed'


def install(tree: Tree, *packages: Path) -> str:
    """Install packages in it; returns what was said."""
    where = tree.root / 'root'
    for package in packages:
        shutil.copy(package, where)
    done = tree.run('apt-get', 'install', '--yes', '--no-install-recommends',
                    *(f'/root/{package.name}' for package in packages))
    log = tree.project.log(tree.name)
    log.write_text(done.stdout, encoding='utf-8')
    if done.returncode:
        raise Failure(f'{packages[0].name} could not be installed in '
                      f'{tree.root} (see {log})')
    return str(done.stdout)


def build(project: Project) -> Tree:
    """Have it, with what is made of the sources now."""
    base = debian.build(project)
    package = deb_kvm.build(project)
    inputs = stamp.checksum(package, base.inputs)
    tree = Tree(project, NAME)
    with stamp.lock(project.build / f'.{NAME}.lock'):
        if not tree.is_of(inputs):
            print(f'Installing {package.name} in {tree.root}', flush=True)
            tree = base.copy(NAME)
            install(tree, package)
            tree.done(inputs)
    return tree
