# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU with the fork as Debian packages: build/deb/qemu-system-x86-kvm-userfault*

They are made in a Debian 13 that has what Debian's QEMU is built with, of the
prepared tree and debian/qemu-system-x86-kvm-userfault.  Version and times are
those of the last commit that changes any of that, so the same commit gives the
same bytes.
"""

from datetime import datetime, timezone
from email.utils import format_datetime
import os
from pathlib import Path
import re
import shutil
import subprocess
from typing import Iterator, List, NamedTuple

from kuf.build import deb, debian, stamp
from kuf.build.check import check_current
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Options, Project
from kuf.build.tree import KINDS, Tree
from kuf.cli import Failure


PACKAGE = 'qemu-system-x86-kvm-userfault'
SOURCE = 'qemu-kvm-userfault'
PACKAGING = f'debian/{PACKAGE}'

# Where its loadable modules are.
MODULES = '/usr/lib/x86_64-linux-gnu/qemu-kvm-userfault/qemu'

# The Debian that they are made in, and where in it.
ENVIRONMENT = 'debian-13-qemu'
WORK = Path('/build')

# What that has more than Debian's QEMU is built with.
TOOLS = 'build-essential ccache lintian'
APT = ('-q', '-y', '--no-install-recommends', '-o',
       'Dpkg::Options::=--force-unsafe-io')

# What apt calls the fields that matter to what is built for one architecture.
BUILD_DEPENDS = ('Build-Depends', 'Build-Depends-Arch')


class Version(NamedTuple):
    """What the packages are called, and when they were made."""

    upstream: str
    seconds: int
    local: bool

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.seconds, timezone.utc)
        local = '+local' if self.local else ''
        return f'{self.upstream}+{when:%Y%m%d.%H%M%S}{local}'


def _paths() -> List[str]:
    """All that they are made of, in the repository."""
    kind = KINDS['qemu']
    return [PACKAGING, 'base/qemu', kind.series, *kind.overlay]


def version(project: Project, upstream: str) -> Version:
    """That of what is there now."""
    git = Git(project.top)
    seconds = git.find('log', '-1', '--format=%ct', '--', *_paths())
    if not seconds:
        raise Failure('packages get their version from the commits, and '
                      f"'{project.top}' has none; use a clone of the "
                      'repository')
    changed = git('status', '--porcelain', '--', *_paths())
    return Version(upstream, int(seconds), bool(changed))


def paragraphs(text: str) -> Iterator[str]:
    """Those of a control file, without its comments."""
    text = re.sub('^#.*\n', '', text, flags=re.M)
    return (part + '\n' for part in re.split(r'\n\s*\n', text.strip()))


def field(paragraph: str, name: str) -> str:
    """The value of a field, or nothing."""
    found = re.search(rf'^{name}:(.*\n(?:[ \t].*\n)*)', paragraph, re.M)
    return found[1].strip() if found else ''


def build_depends(control: str) -> str:
    """What a source package needs to be built for one architecture."""
    source = next(paragraphs(control))
    return '\n '.join(field(source, name).rstrip(',') + ','
                      for name in BUILD_DEPENDS if field(source, name))


def _contents(project: Project, tree: Tree) -> str:
    """What stands for all that they are made of."""
    packaging = [path for path in (project.top / PACKAGING).rglob('*')
                 if path.is_file()]
    overlay = [project.top / name for name in tree.overlay_files()]
    return stamp.checksum(tree.git('rev-parse', 'HEAD'), Path(__file__),
                          *sorted(packaging), *overlay)


def fill_in(path: Path, values: dict[str, str]) -> None:
    """Replace what stands between two @."""
    text = path.read_text(encoding='utf-8')
    for name, value in values.items():
        text = text.replace(f'@{name}@', value)
    left = re.search('@[A-Z_]+@', text)
    if left:
        raise Failure(f"{PACKAGING}/{path.name} has '{left[0]}', which nobody "
                      'fills in; correct it')
    path.write_text(text, encoding='utf-8')


def _changelog(called: Version, base: str, maintainer: str) -> str:
    when = datetime.fromtimestamp(called.seconds, timezone.utc)
    return f"""{SOURCE} ({called}) UNRELEASED; urgency=medium

  * Debian's {base} with KVM userfault.

 -- {maintainer}  {format_datetime(when)}
"""


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
    packaging = folder / 'debian'
    shutil.copytree(project.top / PACKAGING, packaging)
    # Who wrote QEMU, and Debian's part of it, is known to Debian.
    shutil.copy(qemu / 'debian/copyright', packaging)
    control = packaging / 'control'
    fill_in(control, {
        'QEMU_UPSTREAM': called.upstream,
        'QEMU_BUILD_DEPENDS': build_depends(
            (qemu / 'debian/control').read_text(encoding='utf-8'))})
    maintainer = field(next(paragraphs(control.read_text(encoding='utf-8'))),
                       'Maintainer')
    (packaging / 'changelog').write_text(
        _changelog(called, tree.subject('base'), maintainer), encoding='utf-8')


def put(tree: debian.Tree, folder: Path) -> Path:
    """A folder of ours appears in it; returns where."""
    tree.run('rm', '-rf', WORK, check=True)
    tree.run('mkdir', WORK, check=True)
    with subprocess.Popen(
            ['tar', '-c', '--owner=0', '--group=0', '-C', folder.parent,
             folder.name], stdout=subprocess.PIPE) as packed:
        tree.run('tar', '-x', '-C', WORK, stdin=packed.stdout, check=True)
    if packed.returncode:
        raise Failure(f"'{folder}' can't be read")
    return WORK / folder.name


def _environment(project: Project, source: Path, log: Log) -> debian.Tree:
    """A Debian 13 with what the packages need to be built and judged."""
    control = (source / 'debian/control').read_text(encoding='utf-8')
    needs = field(next(paragraphs(control)), 'Build-Depends')
    tree = debian.Tree(project, ENVIRONMENT)
    inputs = stamp.checksum(Path(debian.__file__), TOOLS, needs)
    if tree.is_of(inputs):
        return tree
    print("Fetching what Debian's QEMU is built with", flush=True)
    stamp.need_space(project.build, 7000, 'building packages of QEMU')
    tree = debian.build(project).copy(ENVIRONMENT)
    with log.explains('what the packages of QEMU are built with could not be '
                      'installed', "check the network and apt's configuration "
                      "with 'apt-get update'"):
        log.run(*tree.command('apt-get', '-q', 'update'))
        log.run(*tree.command('apt-get', *APT, 'install', *TOOLS.split()))
        log.run(*tree.command('apt-get', *APT, 'build-dep', '--arch-only',
                              put(tree, source)))
        log.run(*tree.command('apt-get', 'clean'))
    tree.done(inputs)
    return tree


def prepare(project: Project, source: Path, log: Log) -> debian.Tree:
    """
    Write the source package to a new folder, and put it, by that folder's
    name, where it can be built.
    """
    qemu = Tree(project, 'qemu')
    called = version(project, qemu.version(qemu.path))
    stamp.remove(source)
    write_source(project, qemu, called, source)
    tree = _environment(project, source, log)
    put(tree, source)
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
                      'QEMU', f'correct it in {PACKAGING}'):
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


def build(project: Project) -> None:
    """build/deb/*.deb of QEMU, and in build/deb/debug what debuggers want."""
    tree = Tree(project, 'qemu')
    tree.require()
    check_current(tree, Options.load(project).qemu_source)
    called = version(project, tree.version(tree.path))
    folder = deb.folder(project)
    done = folder / f'.{PACKAGE}.inputs'
    inputs = stamp.checksum(str(called), _contents(project, tree))
    with stamp.lock(project.build / f'.{PACKAGE}.lock'):
        if stamp.is_at(done, inputs):
            return
        log = Log(project.log(PACKAGE))
        environment = prepare(project, project.build / 'deb-source' / SOURCE,
                              log)
        print(f'Building {PACKAGE} {called}', flush=True)
        make(environment, SOURCE, log)
        lint(environment, log)
        collect(environment, folder)
        stamp.put(done, inputs)
