# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian packages, through lists of our own under build/apt.

The machine's apt configuration says which mirror is used, and the machine's
keys verify what comes from it; its package lists are neither read nor
written.
"""

from fnmatch import fnmatchcase
from pathlib import Path
import subprocess
from typing import List, Optional, Tuple

from kuf.build import versions
from kuf.build.log import CommandFailed, Log
from kuf.build.project import Project
from kuf.cli import Failure


KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

# "source" is all of a source package, "tarball" upstream's part of it alone.
SOURCES = ('source', 'tarball')
DOWNLOAD = {
    'source': ['source', '--download-only'],
    'tarball': ['source', '--download-only', '--tar-only'],
    'binary': ['download'],
}


class Apt:
    """The packages of the machine's mirror."""

    def __init__(self, project: Project) -> None:
        self.folder = project.build / 'apt'
        self._archives: List[Tuple[str, str]] = []

    def _options(self, lists: str) -> List[str]:
        (self.folder / lists / 'lists/partial').mkdir(parents=True,
                                                      exist_ok=True)
        return ['-q', '-o', f'Dir::State::Lists={self.folder}/{lists}/lists',
                '-o', 'Dir::Cache::pkgcache=',
                '-o', 'Dir::Cache::srcpkgcache=']

    def log(self) -> Log:
        """What apt says next."""
        return Log(self.folder / 'log')

    def machine_options(self) -> List[str]:
        """The machine's own sources, with our lists."""
        return self._options('machine')

    def suite_options(self) -> List[str]:
        """
        The one suite that use_suite() has set up.  No package counts as
        installed there, so nothing of the machine shows through.
        """
        return self._options('suite') + [
            '-o', f'Dir::Etc::SourceList={self.folder}/suite/sources.list',
            '-o', 'Dir::Etc::SourceParts=-',
            '-o', 'Dir::State::Status=/dev/null',
            '-o', 'APT::Sandbox::User=',
            '-o', 'APT::Update::Error-Mode=any',
            '-o', 'APT::Get::List-Cleanup=false']

    def archives(self) -> List[Tuple[str, str]]:
        """
        URI and release of each Debian archive among the machine's sources,
        with fresh lists, once a run.
        """
        if self._archives:
            return self._archives
        log = self.log()
        try:
            log.run('apt-get', *self.machine_options(), 'update')
        except CommandFailed:
            pass    # One of several may be down; what counts is what came.
        targets = subprocess.run(
            ['apt-get', *self.machine_options(), 'indextargets', '--format',
             '$(REPO_URI) $(RELEASE)', 'Created-By: Packages',
             'Origin: Debian'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=False).stdout
        for line in sorted(set(targets.splitlines())):
            uri, _, release = line.partition(' ')
            self._archives.append((uri, release))
        if not self._archives:
            raise Failure(
                'no package list could be fetched; check the network and '
                "apt's configuration with 'apt-get update' (see "
                f'{log.path})')
        return self._archives

    def _use_suite(self, suite: str, uri: str, kind: str) -> bool:
        """suite_options() mean just that suite, if there is such a one."""
        options = self.suite_options()
        line = 'deb-src' if kind in SOURCES else 'deb'
        (self.folder / 'suite/sources.list').write_text(
            f'{line} [signed-by={KEYRING}] {uri} {suite} main\n',
            encoding='ascii')
        try:
            self.log().run('apt-get', *options, 'update')
        except CommandFailed:
            return False
        return True

    def show(self, package: str, kind: str = 'binary') -> str:
        """What the suite says of a package."""
        verb = ['showsrc', '--only-source'] if kind in SOURCES else ['show']
        return subprocess.run(
            ['apt-cache', *self.suite_options(), *verb, package],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=False).stdout

    def _newest(self, package: str, kind: str, pattern: str,
                than: str) -> Optional[str]:
        """The newest one that fits, and is newer than that if one is given."""
        found = [line.partition(' ')[2]
                 for line in self.show(package, kind).splitlines()
                 if line.startswith('Version: ')]
        fit = [version for version in found
               if fnmatchcase(versions.upstream(version), pattern) and
               (not than or versions.key(versions.upstream(version)) >
                versions.key(than))]
        return max(fit, key=versions.key) if fit else None

    def locate(self, package: str, kind: str, pattern: str, suites: List[str],
               than: str = '') -> Optional[str]:
        """
        The version to take, from the first suite that has one, which
        suite_options() then mean; None if none has.
        """
        for suite in suites:
            security = suite.endswith('-security')
            uris = {uri for uri, release in self.archives()
                    if release.endswith('-security') == security}
            for uri in sorted(uris):
                if not self._use_suite(suite, uri, kind):
                    continue
                version = self._newest(package, kind, pattern, than)
                if version:
                    return version
        return None

    def download(self, package: str, kind: str, version: str,
                 folder: Path) -> None:
        """All its files, verified by apt."""
        log = self.log()
        with log.explains(f'{package} {version} could not be fetched',
                          'run the same command again'):
            log.run('apt-get', *self.suite_options(), *DOWNLOAD[kind],
                    f'{package}={version}', cwd=folder)
