# SPDX-License-Identifier: GPL-2.0-or-later
"""
KVM with the series as modules for a kernel without it.

Its sources are those of the prepared tree: KVM's own, and the headers that the
series changes; debian/kvm-userfault-dkms/module has what is around them.
"""

from pathlib import Path
import re
import shutil
import subprocess
from typing import List

from kuf.build import stamp
from kuf.build.compilers import (
    KBUILD,
    compiler,
    jobs,
    make,
)
from kuf.build.project import Project
from kuf.build.tree import Tree
from kuf.cli import Failure


# KVM's own, and where it has headers that others include.
FOLDERS = ('arch/x86/kvm', 'virt/kvm')
HEADERS = ('arch/x86/include', 'include')

# Modules, as their files are called.
MODULES = ('kvm', 'kvm-amd', 'kvm-intel')

MAKEFILE = 'arch/x86/kvm/Makefile'


def around(project: Project) -> Path:
    """What is around KVM's sources: its Kbuild, and what DKMS calls."""
    return project.top / 'debian/kvm-userfault-dkms/module'


def _files(tree: Tree) -> List[str]:
    """The sources, by their paths in Linux; what git is told is none."""
    owned = tree.git('ls-files', '--', *FOLDERS, ':!.gitignore',
                     ':!*/.gitignore')
    headers = tree.git('diff', '--name-only', '--diff-filter=d', 'base', '--',
                       *HEADERS)
    return [*owned.splitlines(), *headers.splitlines()]


def _check_options(source: Path, kbuild: Path) -> None:
    """The kernel has no configuration for what the series adds."""
    added = re.findall(r'^config (HAVE_KVM_USERFAULT\w*)$',
                       (source / 'virt/kvm/Kconfig').read_text('utf-8'), re.M)
    known = re.findall(r'-DCONFIG_(HAVE_KVM_USERFAULT\w*)=1',
                       kbuild.read_text('utf-8'))
    if sorted(added) != sorted(known):
        raise Failure(f"'{kbuild}' has {' '.join(known)} and the series "
                      f"{' '.join(added)}; correct that file")


def lay(project: Project, folder: Path) -> None:
    """The sources in a new folder, to be built for any kernel of the base."""
    tree = Tree(project, 'linux')
    tree.require()
    _check_options(tree.path, around(project) / 'Kbuild')
    shutil.copytree(around(project), folder)
    for name in _files(tree):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.path / name, target)
    makefile = folder / MAKEFILE
    text = makefile.read_text(encoding='utf-8')
    if '$(srctree)/' not in text:
        raise Failure(f'{MAKEFILE} of the series names no folder of the kernel'
                      ' any more; correct python/kuf/build/kvm_module.py')
    makefile.write_text(text.replace('$(srctree)/', '$(kvm-top)/'),
                        encoding='utf-8')


def inputs(project: Project) -> str:
    """What they are, as one word."""
    tree = Tree(project, 'linux')
    tree.require()
    return stamp.checksum(
        *sorted(path for path in around(project).iterdir()),
        *(tree.path / name for name in _files(tree)))


def build(project: Project, kernel: Path, release: str, folder: Path,
          log: Path) -> None:
    """
    Build them in that folder.

    @param kernel: a kernel's build, with Module.symvers
    @param release: what that kernel calls itself
    @param log: takes what make says
    """
    cc = compiler('gcc')
    with open(log, 'wb') as output:
        if not make(project, Tree(project, 'linux').path, f'O={kernel}',
                    f'KERNELRELEASE={release}', f'CC={cc}', f'HOSTCC={cc}',
                    f'M={folder}', jobs(), 'modules', output=output, **KBUILD):
            raise Failure(f"KVM does not build for kernel '{release}'; see "
                          f'{log}')


def install(folder: Path, target: Path) -> None:
    """The modules, without what only a debugger reads."""
    target.mkdir(parents=True)
    for name in MODULES:
        subprocess.run(['strip', '--strip-debug', '-o', target / f'{name}.ko',
                        folder / f'arch/x86/kvm/{name}.ko'], check=True)
