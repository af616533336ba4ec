# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU with the fork as Debian packages: build/deb/qemu-system-x86-kvm-userfault*

They are made in a Debian 13 that has what Debian's QEMU is built with, of the
prepared tree and debian/qemu-system-x86-kvm-userfault.
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
from typing import Iterator, List

from kuf.build import deb, debian, stamp
from kuf.build.check import check_current
from kuf.build.deb import Version, field
from kuf.build.log import Log
from kuf.build.project import Options, Project
from kuf.build.tree import KINDS, Tree
from kuf.cli import Failure


PACKAGE = 'qemu-system-x86-kvm-userfault'
SOURCE = 'qemu-kvm-userfault'

# Where its loadable modules are.
MODULES = '/usr/lib/x86_64-linux-gnu/qemu-kvm-userfault/qemu'

# The Debian that they are made in, and where in it.
ENVIRONMENT = 'debian-13-qemu'
WORK = Path('/build')

# What that has more than Debian's QEMU is built with.
TOOLS = 'build-essential ccache lintian'

# What apt calls the fields that matter to what is built for one architecture.
BUILD_DEPENDS = ('Build-Depends', 'Build-Depends-Arch')


def version(project: Project, tree: Tree) -> Version:
    """That of what is there now."""
    kind = KINDS['qemu']
    return deb.version(project, PACKAGE, tree.version(tree.path), 'base/qemu',
                       kind.series, *kind.overlay)


def paragraphs(text: str) -> Iterator[str]:
    """Those of a control file, without its comments."""
    text = re.sub('^#.*\n', '', text, flags=re.M)
    return (part + '\n' for part in re.split(r'\n\s*\n', text.strip()))


def build_depends(control: str) -> str:
    """What a source package needs to be built for one architecture."""
    source = next(paragraphs(control))
    return '\n '.join(field(source, name).rstrip(',') + ','
                      for name in BUILD_DEPENDS if field(source, name))


def _contents(project: Project, tree: Tree) -> str:
    """What stands for all that they are made of."""
    overlay = [project.top / name for name in tree.overlay_files()]
    return stamp.checksum(tree.git('rev-parse', 'HEAD'), Path(__file__),
                          deb.contents(project, PACKAGE), *overlay)


def write_source(project: Project, tree: Tree, called: Version,
                 folder: Path) -> None:
    """A source package: qemu/ is the prepared tree, debian/ is ours."""
    qemu = folder / 'qemu'
    qemu.mkdir(parents=True)
    with subprocess.Popen(tree.git.command('archive', 'HEAD'),
                          stdout=subprocess.PIPE) as archive:
        subprocess.run(['tar', '-x', '-C', qemu], stdin=archive.stdout,
                       check=True)
    if archive.returncode:
        raise Failure(f"'{tree.path}' can't be read")
    for name in tree.overlay_files():
        (qemu / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.top / name, qemu / name)
    theirs = (qemu / 'debian/control').read_text(encoding='utf-8')
    deb.lay(project, PACKAGE, called,
            f"Debian's {tree.subject('base')} with KVM userfault.", folder,
            QEMU_UPSTREAM=called.upstream,
            QEMU_BUILD_DEPENDS=build_depends(theirs))
    # Who wrote QEMU, and Debian's part of it, is known to Debian.
    shutil.copy(qemu / 'debian/copyright', folder / 'debian')


def _put(tree: debian.Tree, source: Path) -> str:
    """It comes where it can be built; returns where."""
    tree.run('rm', '-rf', WORK, check=True)
    tree.run('mkdir', WORK, check=True)
    return tree.put(str(WORK), source)[0]


def _environment(project: Project, source: Path, log: Log) -> debian.Tree:
    """A Debian 13 with what the packages need to be built and judged."""
    control = (source / 'debian/control').read_text(encoding='utf-8')
    needs = field(control, 'Build-Depends')
    tree = debian.Tree(project, ENVIRONMENT)
    base = debian.build(project)
    inputs = stamp.checksum(base.inputs, TOOLS, needs)
    if tree.is_of(inputs):
        return tree
    print("Fetching what Debian's QEMU is built with", flush=True)
    stamp.need_space(project.build, 7000, 'building packages of QEMU')
    tree = base.copy(ENVIRONMENT)
    with log.explains('what the packages of QEMU are built with could not be '
                      'installed', "check the network and apt's configuration "
                      "with 'apt-get update'"):
        log.run(*tree.command('apt-get', '-q', 'update'))
        log.run(*tree.command('apt-get', *debian.APT, 'install',
                              *TOOLS.split()))
        log.run(*tree.command('apt-get', *debian.APT, 'build-dep',
                              '--arch-only', _put(tree, source)))
        log.run(*tree.command('apt-get', 'clean'))
    tree.done(inputs)
    return tree


def prepare(project: Project, source: Path, log: Log) -> debian.Tree:
    """
    Write the source package to a new folder, and put it, by that folder's
    name, where it can be built.
    """
    qemu = Tree(project, 'qemu')
    stamp.remove(source)
    write_source(project, qemu, version(project, qemu), source)
    tree = _environment(project, source, log)
    _put(tree, source)
    stamp.remove(source)
    return tree


def make(tree: debian.Tree, name: str, log: Log, **env: str) -> None:
    """Packages of the source that was put there, beside it."""
    jobs = len(os.sched_getaffinity(0)) + 1
    with log.explains(f'{PACKAGE} does not build'):
        log.run(*tree.command(
            'env', '-C', WORK / name, f'DEB_BUILD_OPTIONS=parallel={jobs}',
            'CC=ccache gcc', 'CCACHE_DIR=/var/cache/ccache',
            *(f'{key}={value}' for key, value in env.items()),
            'dpkg-buildpackage', '-b', '-us', '-uc'))


def lint(tree: debian.Tree, log: Log) -> None:
    """Debian's own checks have nothing to say about them."""
    with log.explains('lintian has something to say about the packages of '
                      'QEMU', f'correct it in debian/{PACKAGE}'):
        log.run(*tree.command(
            'sh', '-c', 'cd "$1" && exec setpriv --reuid=65534 --regid=65534 '
            '--clear-groups lintian --fail-on error,warning '
            '--suppress-tags bad-distribution-in-changes-file *.changes',
            'sh', WORK))


def collect(tree: debian.Tree, folder: Path) -> None:
    """Packages come in place of older ones of the same names."""
    debug = folder / 'debug'
    debug.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob(f'{PACKAGE}*.deb'), *debug.glob(f'{PACKAGE}*')):
        old.unlink()
    for new in (tree.root / WORK.relative_to('/')).glob('*.deb'):
        shutil.copy(new, debug if '-dbgsym_' in new.name else folder)


def build(project: Project) -> List[Path]:
    """
    Those in build/deb, which are returned, and in build/deb/debug what
    debuggers want.
    """
    tree = Tree(project, 'qemu')
    tree.require()
    check_current(tree, Options.load(project).qemu_source)
    called = version(project, tree)
    folder = deb.folder(project)
    done = folder / f'.{PACKAGE}.inputs'
    inputs = stamp.checksum(str(called), _contents(project, tree))
    with stamp.lock(project.build / f'.{PACKAGE}.lock'):
        if not stamp.is_at(done, inputs):
            print(f'Building {PACKAGE} {called}', flush=True)
            log = Log(project.log(PACKAGE))
            environment = prepare(project,
                                  project.build / 'deb-source' / SOURCE, log)
            make(environment, SOURCE, log)
            lint(environment, log)
            collect(environment, folder)
            stamp.put(done, inputs)
    return sorted(folder.glob(f'{PACKAGE}*.deb'))
