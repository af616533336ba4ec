# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debians in folders: build/NAME, from the machine's own mirror, with the packages
that base/NAME lists.

Each is as a new machine is, and stays so: what is tried in it is tried in a
copy, or in the emulated host, where what is written is gone afterwards.  They
belong to root.
"""

from dataclasses import dataclass
from pathlib import Path
import subprocess
from typing import (
    Any,
    Dict,
    List,
    Tuple,
)

from kuf import process
from kuf.build import packages, stamp
from kuf.build.apt import KEYRING, Apt
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import require
from kuf.process import WITH_US, Word


NAME = 'debian-13'
# What each is, and its release.
DEBIANS: Dict[str, Tuple[str, str]] = {
    NAME: ('Debian 13', 'trixie'),
    'libvirt-12': ('Debian 12 with libvirt', 'bookworm'),
    'libvirt-13': ('Debian 13 with libvirt', 'trixie'),
}

# Nothing that is installed there is started; $1 is the folder.
NOTHING_STARTS = """\
printf '#!/bin/sh\\nexit 101\\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
"""


# How apt installs packages there.
APT = ('-q', '-y', '--no-install-recommends', '-o',
       'Dpkg::Options::=--force-unsafe-io')

# Starts the first process of new process numbers, and is over when all of them
# are.  unshare --fork does so, too, but no signal ends it.
FIRST_PROCESS = """\
exec 3<&0
"$@" <&3 3<&- & child=$!
trap 'kill -KILL $child' HUP INT TERM
while
    wait $child
    status=$?
    [ $status -gt 128 ] && kill -0 $child 2>&-
do :; done
exit $status
"""


def inside(root: Path) -> Tuple[Word, ...]:
    """
    What a command is run by to be in such a folder: its processes are its
    own, and end with it, and with whoever runs it.
    """
    return (*WITH_US, 'unshare', '--pid', '--', 'sh', '-c',
            FIRST_PROCESS, 'sh', *WITH_US, 'unshare', f'--root={root}',
            '--mount-proc', '--', 'env', '-i', '--default-signal', 'HOME=/root',
            'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8',
            'DEBIAN_FRONTEND=noninteractive')


@dataclass(frozen=True)
class Tree:
    """Such a Debian, by its name in build/."""

    project: Project
    name: str = NAME

    @property
    def root(self) -> Path:
        """Its root folder."""
        return self.project.build / self.name

    @property
    def _stamp(self) -> Path:
        """Beside it, for it is as Debian has it."""
        return self.root.with_name(f'.{self.name}.inputs')

    @property
    def inputs(self) -> str:
        """What it was made of."""
        return self._stamp.read_text(encoding='utf-8').strip()

    def is_of(self, inputs: str) -> bool:
        """Whether it is there, and was made of these."""
        return self.root.is_dir() and stamp.is_at(self._stamp, inputs)

    def done(self, inputs: str) -> None:
        """It is made."""
        stamp.put(self._stamp, inputs)

    def remove(self) -> None:
        """It, if it is there."""
        stamp.remove(self._stamp)
        if self.root.exists():
            subprocess.run([*packages.as_root(f'removing {self.root}'),
                            'rm', '-rf', '--one-file-system', self.root],
                           check=True)

    def command(self, *command: Word) -> List[Word]:
        """That command in it, on this machine."""
        require(self.root, 'Debian 13', f'scripts/build {NAME}')
        return [*packages.as_root(f'a command in {self.root}'),
                *inside(self.root), *command]

    def run(self, *command: Word,
            **how: Any) -> 'subprocess.CompletedProcess[str]':
        """Run it there; its output is text, and caught unless HOW says else."""
        how = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE,
               'stderr': subprocess.STDOUT, 'text': True, 'check': False, **how}
        # pylint: disable-next=subprocess-run-check
        return subprocess.run(self.command(*command), **how)

    def output(self, *command: Word) -> str:
        """Run one that has to end well; returns what it prints."""
        done = self.run(*command)
        if done.returncode:
            raise Failure(f"'{' '.join(map(str, command))}' failed in "
                          f'{self.root}: {done.stdout[-2000:]}')
        return str(done.stdout)

    def put(self, folder: str, *paths: Path) -> List[str]:
        """
        Copy files and folders there, for all to read; returns what they are
        called there.
        """
        packed: List[Word] = []
        for path in paths:
            packed += ['-C', path.parent, path.name]
        with subprocess.Popen(
                ['tar', '-c', '--owner=0', '--group=0', '--mode=a+rX', *packed],
                stdout=subprocess.PIPE) as tar:
            self.run('tar', '-x', '-C', folder, stdin=tar.stdout, check=True)
        if tar.returncode:
            raise Failure(f"'{paths[0]}' can't be read")
        return [f'{folder}/{path.name}' for path in paths]

    def install(self, *names: str) -> str:
        """Have apt install packages, and return what it says."""
        self.output('apt-get', '-q', 'update')
        said = self.output('apt-get', *APT, 'install', *names)
        self.output('apt-get', 'clean')
        return said

    def copy(self, name: str) -> 'Tree':
        """One to try something in, in place of one that may be there."""
        other = Tree(self.project, name)
        other.remove()
        stamp.need_space(self.project.build, 3000, f'a copy of {self.root}')
        if process.run([*packages.as_root(f'copying {self.root}'), 'cp', '-a',
                        '--reflink=auto', self.root, other.root]):
            raise Failure(f"'{self.root}' could not be copied; see above")
        return other


def _sources(apt: Apt, release: str) -> List[str]:
    """A release and its security updates on the machine's mirrors."""
    lines = []
    for security in (False, True):
        uris = {uri for uri, there in apt.archives()
                if there.endswith('-security') == security}
        suite = f'{release}-security' if security else release
        lines += [f'deb [signed-by={KEYRING}] {uri} {suite} main'
                  for uri in sorted(uris)]
    return lines


def build(project: Project, name: str = NAME) -> Tree:
    """Bring it, if it is not there as base/NAME has it."""
    what, release = DEBIANS[name]
    tree = Tree(project, name)
    listed = project.top / 'base' / name
    inputs = stamp.checksum(listed, release, NOTHING_STARTS)
    with stamp.lock(project.build / f'.{name}.lock'):
        if tree.is_of(inputs):
            return tree
        as_root = packages.as_root(f'bringing {what} to {tree.root}')
        stamp.need_space(project.build, 4000, what)
        names = packages.listed(listed)
        print(f"Fetching {what}: {' '.join(names)}", flush=True)
        tree.remove()
        log = Log(project.log(name))
        with log.explains(f'{what} could not be brought',
                          "check the network and apt's configuration with "
                          "'apt-get update'"):
            # Whoever boots its kernel brings an initramfs.
            log.run(*as_root, 'env', 'INITRD=No', 'mmdebstrap', '--mode=root',
                    '--variant=apt', f"--include={','.join(names)}",
                    release, tree.root, *_sources(Apt(project), release))
            log.run(*as_root, 'sh', '-ec', NOTHING_STARTS, 'sh', tree.root)
        tree.done(inputs)
    return tree
