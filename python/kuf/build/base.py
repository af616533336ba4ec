# SPDX-License-Identifier: GPL-2.0-or-later
"""
The sources that the fork is laid over: base/NAME says which, and where apt
looks for them.
"""

from fnmatch import fnmatchcase
from pathlib import Path
import subprocess
from typing import (
    IO,
    List,
    Optional,
    Sequence,
)

from kuf.build import stamp
from kuf.build.apt import Apt
from kuf.build.log import CommandFailed, Log
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.process import Word


class Base:
    """One source; base/qemu explains the keys."""

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        self.name = name
        self.path = project.top / 'base' / name
        self.files = project.build / 'base' / name
        self._lines = [line.split(None, 1) for line in
                       self.path.read_text(encoding='utf-8').splitlines()
                       if line.strip() and not line.startswith('#')]

    def value(self, key: str) -> str:
        """What the file says, or nothing."""
        return next((line[1].strip() for line in self._lines
                     if line[0] == key), '')

    @property
    def wanted(self) -> str:
        """The version that the patches are made for, as a pattern."""
        return self.value('version')

    @property
    def line(self) -> str:
        """Those that are tried, too."""
        return self.value('newer') or self.wanted

    def is_wanted(self, version: str) -> bool:
        """Whether it is the one that the patches are made for."""
        return fnmatchcase(version, self.wanted)

    def is_of_line(self, version: str) -> bool:
        """Whether it is one that is tried."""
        return fnmatchcase(version, self.line)

    def inputs(self) -> str:
        """What stands for what is fetched."""
        return stamp.checksum(self.path)

    def locate(self, apt: Apt, package: str, kind: str,
               suites: List[str]) -> str:
        """
        The version that the fork is made for or, when no mirror has that any
        more, one after it.
        """
        newer = self.value('newer')
        found = apt.locate(package, kind, self.wanted, suites)
        if not found and newer:
            found = apt.locate(package, kind, newer, suites, self.wanted)
        if found:
            return found
        source = '' if self.name not in ('qemu', 'linux') else \
            f', or give the source with --{self.name}-source'
        raise Failure(
            f"no {package} {self.wanted}{' or newer' if newer else ''} in "
            f"{' '.join(suites)} of this machine's Debian mirror; correct "
            f'base/{self.name}{source}')

    def fetch(self, apt: Apt) -> str:
        """The package's files, which stay; returns its version."""
        done = self.files / '.inputs'
        version = self.files / '.version'
        if stamp.is_at(done, self.inputs()):
            return version.read_text(encoding='utf-8').strip()
        package, kind = self.value('package'), self.value('kind')
        found = self.locate(apt, package, kind, self.value('suite').split())
        print(f'Fetching {package} {found}', flush=True)
        new = self.files.with_name('.' + self.name)
        stamp.remove(new)
        new.mkdir(parents=True)
        apt.download(package, kind, found, new)
        stamp.put(new / version.name, found)
        stamp.put(new / done.name, self.inputs())
        stamp.replace(new, self.files)
        return found

    def _file(self, pattern: str) -> Path:
        found = sorted(self.files.glob(pattern))
        if not found:
            raise Failure(f"'{self.files}' has no {pattern}; remove that "
                          'folder, then run the same command again')
        return found[0]

    def checksum_on_record(self, version: str) -> Optional[str]:
        """base/NAME's, or None."""
        known = dict(line[1].split() for line in self._lines
                     if line[0] == 'sha256')
        return known.get(version.split(':', 1)[-1])

    def _verify(self, version: str, tarball: Path) -> None:
        """In addition to apt's signature, where a checksum is on record."""
        found = stamp.checksum(tarball)
        wanted = self.checksum_on_record(version)
        if not wanted:
            print(f'base/{self.name} has no checksum for it; it is signed, and'
                  ' its line would be:\n'
                  f"sha256   {version.split(':', 1)[-1]} {found}", flush=True)
        elif wanted != found:
            raise Failure(f'the tarball of {self.name} {version} does not '
                          f'have the checksum in base/{self.name}; remove '
                          f"'{self.files}', then run the same command again")

    def unpack(self, log: Log, version: str, folder: Path) -> None:
        """Debian's package, with Debian's patches if it is a source one."""
        unpack = {'source': self._unpack_source,
                  'tarball': self._unpack_tarball,
                  'binary': self._unpack_binary}[self.value('kind')]
        unpack(log, version, folder)

    def _unpack_source(self, log: Log, version: str, folder: Path) -> None:
        self._verify(version, self._file('*.orig.tar.xz'))
        log.run('dpkg-source', '--no-copy', '-x', self._file('*.dsc'), folder)

    def _unpack_tarball(self, log: Log, version: str, folder: Path) -> None:
        tarball = self._file('*.orig.tar.xz')
        self._verify(version, tarball)
        untar(log, tarball, folder)

    def _unpack_binary(self, log: Log, version: str, folder: Path) -> None:
        """A tarball in a binary package."""
        tarball = folder.with_name(folder.name + '.tar.xz')
        package = self._file('*.deb')
        with open(tarball, 'wb') as out:
            tar_of(log, package, ['dpkg-deb', '--fsys-tarfile', package],
                   '-xO', f"./{self.value('tarball')}", stdout=out)
        self._verify(version, tarball)
        untar(log, tarball, folder)
        tarball.unlink()


def tar_of(log: Log, source: Path, command: Sequence[Word], *args: Word,
           stdout: Optional[IO[bytes]] = None) -> None:
    """Run tar on what a command makes of a source."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        log.run('tar', *args, stdin=made.stdout, stdout=stdout)
    if made.returncode:
        raise CommandFailed(f"'{source}' can't be read")


def untar(log: Log, tarball: Path, folder: Path) -> None:
    """What is in the one folder of a tarball."""
    folder.mkdir()
    log.run('tar', '-xf', tarball, '--strip-components=1', '-C', folder)


def source_files(log: Log, source: Path, folder: Path) -> None:
    """A source that the user gave, a folder or a tarball."""
    if not source.is_dir():
        untar(log, source, folder)
        return
    folder.mkdir()
    tar_of(log, source, ['tar', '-c', '--exclude=./.git', '--exclude=./build',
                         '-C', source, '.'], '-x', '-C', folder)
