# SPDX-License-Identifier: GPL-2.0-or-later
"""
Prepared source trees.

build/src/NAME is a git tree with one commit for the base (tag "base") and one
for each patch of the series on top (tag "applied" marks the last one), on the
branch "fork".

A tree appears under its name only when it is whole, and moves from one state of
the series to the next in one step.
"""

from dataclasses import dataclass
from pathlib import Path
import re
from typing import (
    Callable,
    Dict,
    List,
    Tuple,
)

from kuf.build import overlay, stamp
from kuf.build.apt import Apt
from kuf.build.base import Base, source_files
from kuf.build.git import Git, environment
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


# The base's commit depends on nothing but its files.
BASE_COMMIT = {
    'GIT_AUTHOR_NAME': 'base', 'GIT_AUTHOR_EMAIL': 'base@localhost',
    'GIT_AUTHOR_DATE': '2000-01-01T00:00:00Z',
    'GIT_COMMITTER_DATE': '2000-01-01T00:00:00Z',
}


def _version_of_qemu(source: Path) -> str:
    return (source / 'VERSION').read_text(encoding='utf-8').strip()


def _version_of_linux(source: Path) -> str:
    head = (source / 'Makefile').read_text(encoding='utf-8')[:1000]
    return '.'.join(re.findall(
        r'^(?:VERSION|PATCHLEVEL|SUBLEVEL) = *(\S*)', head, re.M))


@dataclass(frozen=True)
class Kind:
    """What is known of a tree by its name."""

    title: str
    # The patches, in the repository.
    series: str
    # The version that a source says it is.
    version: Callable[[Path], str]
    # Folders of the repository that are laid over it.
    overlay: Tuple[str, ...]
    # What is built from it, below build/, as patterns.
    builds: Tuple[str, ...]


KINDS: Dict[str, Kind] = {
    'qemu': Kind(
        'QEMU', 'patches', _version_of_qemu,
        ('accel', 'docs/devel', 'docs/system', 'hw', 'include', 'migration',
         'monitor', 'system', 'target', 'tests'),
        ('qemu',)),
    'linux': Kind(
        'Linux', 'linux-headers/series/linux-6.12', _version_of_linux, (),
        ('linux-*', 'kvm-*', 'selftests*', 'base-build')),
}


class Tree:
    """The prepared tree of a base."""

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        self.name = name
        self.kind = KINDS[name]
        self.path = project.build / 'src' / name
        self.base = Base(project, name)
        self.git = Git(self.path)

    @property
    def series(self) -> Path:
        """The folder with the patches."""
        return self.project.top / self.kind.series

    def patches(self) -> List[Path]:
        """The series as it stands in the repository."""
        return sorted(self.series.glob('*.patch'))

    def overlay_files(self) -> List[str]:
        """What is laid over it."""
        return overlay.files(self.project.top, self.kind.overlay)

    def subject(self, commit: str) -> str:
        """The subject of a commit; the base's says which one it is."""
        return self.git('log', '-1', '--format=%s', commit)

    def require(self) -> None:
        """It has to be there."""
        if not self.path.is_dir():
            raise Failure(f'build/src/{self.name} is not prepared; run '
                          './configure')

    def version(self, source: Path) -> str:
        """The version that a source says it is, or nothing."""
        try:
            return self.kind.version(source)
        except OSError:
            return ''

    def _base_inputs(self, source: str) -> str:
        """What the prepared base depends on, as one word."""
        if not source:
            return self.base.inputs()
        path = Path(source)
        if not path.exists():
            raise Failure(f"'{source}' does not exist; give a source with "
                          f'--{self.name}-source')
        if path.is_dir():
            return f'{source}:{self.version(path)}'
        return stamp.checksum(path)

    @property
    def _base_stamp(self) -> Path:
        return self.path / '.git/base.inputs'

    def is_of(self, source: str) -> bool:
        """Whether its base is what is asked for now."""
        return stamp.is_at(self._base_stamp, self._base_inputs(source))

    def check_clean(self) -> None:
        """Work that is not in the repository must never be thrown away."""
        work = []
        if self.git('rev-parse', 'HEAD') != self.git('rev-parse', 'applied'):
            work.append('commits')
        if self.git('status', '--porcelain'):
            work.append('uncommitted edits')
        if work:
            raise Failure(
                f"build/src/{self.name} has {' and '.join(work)} that "
                f"{self.kind.series} does not; commit and 'make "
                "export-patches', or drop them with "
                f"'git -C build/src/{self.name} reset --hard applied'")

    def _check_version(self, found: str, what: str) -> None:
        """
        The version that the series is made for is taken as it is, others of
        its line are tried.
        """
        title, base = self.kind.title, self.base
        if base.is_wanted(found):
            return
        if not base.is_of_line(found):
            raise Failure(
                f"{what} is {title} '{found or 'unknown'}', and this fork is "
                f'laid over {title} {base.line}; give such a source with '
                f'--{self.name}-source')
        print(f'{title}: the series is made for {base.wanted}; trying {found}',
              flush=True)

    def _unpack(self, apt: Apt, log: Log, new: Path) -> str:
        """Debian's package; returns what to call it."""
        version = self.base.fetch(apt)
        called = f'{self.name} {version}'
        print(f'Unpacking {called}', flush=True)
        with log.explains(f'{called} could not be unpacked',
                          'run the same command again'):
            self.base.unpack(log, version, new)
        self._check_version(self.version(new), called)
        return called

    def _copy(self, source: str, log: Log, new: Path) -> str:
        """A source that the user gave; returns what to call it."""
        print(f'Copying {source}', flush=True)
        with log.explains(f"'{source}' could not be read",
                          f'--{self.name}-source takes a source directory or '
                          'a tarball'):
            source_files(log, Path(source), new)
        version = self.version(new)
        self._check_version(version, source)
        return f'{self.name} {version}, given by the user'

    @staticmethod
    def _commit_base(log: Log, new: Path, message: str) -> None:
        """Make a folder a git tree with the base as its one commit."""
        git = Git(new)
        env = dict(environment(), **BASE_COMMIT)
        log.run('git', 'init', '-q', '-b', 'fork', new, env=env)
        for command in (['config', 'gc.auto', '0'],
                        ['config', 'core.compression', '0'],
                        ['config', 'core.looseCompression', '0'],
                        ['add', '-A', '-f', '.'],
                        ['commit', '-q', '--no-verify', '-m', message],
                        ['tag', 'base'],
                        ['tag', 'applied']):
            log.run(*git.command(*command), env=env)

    def _drop_builds(self) -> None:
        """
        The files of a new base have the times of its package, which may be
        older than what was built from the base before; make would take that
        for current.
        """
        for pattern in (*self.kind.builds, 'check'):
            for path in self.project.build.glob(pattern):
                stamp.remove(path)

    def prepare(self, apt: Apt, source: str) -> None:
        """Have it at its base: SOURCE, or Debian's package if that is ''."""
        inputs = self._base_inputs(source)
        if stamp.is_at(self._base_stamp, inputs):
            return
        if self.path.is_dir():
            self.check_clean()
        stamp.need_space(self.project.build, 4000,
                         f'preparing {self.kind.title}')
        new = self.path.with_name('.' + self.name)
        for left in new.parent.glob(f'{new.name}*'):
            stamp.remove(left)
        new.parent.mkdir(parents=True, exist_ok=True)
        log = Log(self.project.log('unpack'))
        called = self._copy(source, log, new) if source \
            else self._unpack(apt, log, new)
        with log.explains(f'{called} could not be committed'):
            self._commit_base(log, new, called)
        self._drop_builds()
        stamp.replace(new, self.path)
        stamp.put(self._base_stamp, inputs)

    def lay_overlay(self, folder: Path) -> None:
        """Link the overlay into the tree, or into a work tree of it."""
        overlay.lay(self.project.top, folder, self.overlay_files(),
                    f"is a file of {self.kind.title} itself and can't be in "
                    'the overlay; change it by a patch in '
                    f'{self.kind.series}')

    def add_worktree(self, folder: Path, *options: str) -> Git:
        """A work tree at the base; what was in its place goes."""
        self.drop_worktree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.git('worktree', 'add', '-q', *options, '--detach', folder, 'base')
        return Git(folder)

    def drop_worktree(self, folder: Path) -> None:
        """Such a work tree, if it is there."""
        if not self.git.has('worktree', 'remove', '--force', folder):
            stamp.remove(folder)
        self.git('worktree', 'prune')

    def base_tree(self, folder: Path) -> None:
        """A whole work tree at the base, without the series."""
        if (folder / '.git').exists() and \
                Git(folder).find('rev-parse', '-q', 'HEAD') == \
                self.git('rev-parse', 'base'):
            return
        title = self.kind.title
        stamp.need_space(self.project.build, 3000,
                         f'{title} without the series')
        print(f"{title}: checking out {self.subject('base')}", flush=True)
        self.drop_worktree(folder)
        new = folder.with_name(folder.name + '.new')
        self.add_worktree(new)
        self.git('worktree', 'move', new, folder)
