# SPDX-License-Identifier: GPL-2.0-or-later
"""
The series as it can be mailed: with each file of the overlay in the patch that
uses it first.

A file is used by who includes it, who names it in a meson.build, or who has it
in a table of contents, and by all whom those use.
"""

import os
from pathlib import Path
import re
from typing import (
    Dict,
    Iterator,
    List,
    Set,
    Tuple,
)

from kuf.build.git import Git
from kuf.build.tree import Tree
from kuf.cli import Failure


INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
STRING = re.compile(r"'([^'\n]+)'")
ENTRY = re.compile(r'^[ \t]+(\S+)$', re.M)


def _include_folders(path: str) -> Iterator[str]:
    """
    Where the compiler looks: the folder of who includes, that of the
    meson.build that has it compiled, which is one above, and QEMU's own.
    """
    while path:
        path = os.path.dirname(path)
        yield path
    yield 'include'


def _candidates(path: str, text: str) -> Iterator[str]:
    """What a file's text may name, as paths."""
    folder = os.path.dirname(path)
    if os.path.basename(path) == 'meson.build':
        for name in STRING.findall(text):
            yield os.path.join(folder, name)
            yield os.path.join(folder, name + '.c')
            # That is how tests/functional has them.
            yield os.path.join(folder, f'test_{name}.py')
    elif path.endswith('.rst'):
        for name in ENTRY.findall(text):
            yield os.path.join(folder, name + '.rst')
    elif path.endswith(('.c', '.h', '.inc')):
        for name in INCLUDE.findall(text):
            for where in _include_folders(path):
                yield os.path.join(where, name)


def references(path: str, text: str, known: Set[str]) -> Set[str]:
    """Those of the KNOWN files that a file's text names."""
    named = (os.path.normpath(name) for name in _candidates(path, text))
    return {name for name in named if name in known}


def added_lines(diff: str) -> Dict[str, str]:
    """What a commit adds to each file."""
    added: Dict[str, List[str]] = {}
    lines: List[str] = []
    for line in diff.splitlines():
        if line.startswith('+++ '):
            lines = added.setdefault(line[len('+++ b/'):], [])
        elif line.startswith('+'):
            lines.append(line[1:])
    return {path: '\n'.join(lines) for path, lines in added.items()}


class Overlay:
    """The overlay's files, and who of them needs whom."""

    def __init__(self, top: Path, names: List[str]) -> None:
        self.names = set(names)
        self.top = top
        self._needs = {
            name: references(name, (top / name).read_text(encoding='utf-8'),
                             self.names)
            for name in names}

    def used_by(self, added: Dict[str, str]) -> Set[str]:
        """All files that what is added needs."""
        waiting = set().union(*(references(path, text, self.names)
                                for path, text in added.items()))
        used: Set[str] = set()
        while waiting:
            name = waiting.pop()
            used.add(name)
            waiting |= self._needs[name] - used
        return used

    def entries(self, git: Git) -> Dict[str, str]:
        """Each file as git update-index --index-info takes it."""
        names = sorted(self.names)
        ids = git('hash-object', '-w', '--no-filters', '--stdin-paths',
                  stdin=''.join(f'{self.top / name}\n'
                                for name in names).encode()).split()
        return {name: f'{self._mode(name)} {blob}\t{name}\n'
                for name, blob in zip(names, ids)}

    def _mode(self, name: str) -> str:
        return '100755' if os.access(self.top / name, os.X_OK) else '100644'


class Index:
    """An index of our own, in which trees are put together."""

    def __init__(self, git: Git, path: Path) -> None:
        self.git = git
        self.path = path
        self._env = {'GIT_INDEX_FILE': str(path)}

    def tree(self, commit: str, entries: List[str]) -> str:
        """The tree of a commit with more files in it."""
        self.git('read-tree', commit, env=self._env)
        self.git('update-index', '--add', '--index-info',
                 stdin=''.join(entries).encode(), env=self._env)
        return self.git('write-tree', env=self._env)

    def drop(self) -> None:
        """It is not needed any more."""
        self.path.unlink(missing_ok=True)


def _recommit(git: Git, commit: str, tree: str, parent: str) -> str:
    """A commit with the same message and author on other files."""
    head, message = git.raw('cat-file', 'commit', commit).split(b'\n\n', 1)
    kept = [line for line in head.split(b'\n')
            if not line.startswith((b'tree ', b'parent '))]
    lines = [f'tree {tree}'.encode(), f'parent {parent}'.encode(), *kept]
    return git('hash-object', '-t', 'commit', '-w', '--stdin',
               stdin=b'\n'.join(lines) + b'\n\n' + message)


def fold(tree: Tree) -> Tuple[str, str]:
    """
    The series with the overlay in it: its last commit, above the base, and the
    tree that the prepared one is, links and all.
    """
    git = tree.git
    if not tree.kind.overlay:
        return git('rev-parse', 'applied'), git('rev-parse', 'applied^{tree}')
    overlay = Overlay(tree.project.top, tree.overlay_files())
    entries = overlay.entries(git) if overlay.names else {}
    index = Index(git, tree.path / '.git/fold.index')
    used: Set[str] = set()
    last = git('rev-parse', 'base')
    for commit in git('rev-list', '--reverse', 'base..applied').split():
        used |= overlay.used_by(added_lines(git(
            'diff-tree', '-p', '-U0', '--no-renames', '--no-color', commit)))
        files = index.tree(commit, [entries[name] for name in sorted(used)])
        last = _recommit(git, commit, files, last)
    prepared = index.tree('applied', list(entries.values()))
    index.drop()
    for name in sorted(overlay.names - used):
        raise Failure(
            f"no patch in {tree.kind.series} uses '{name}', so none can bring "
            'it along; name it in a meson.build, an #include or a table of '
            'contents, or remove it')
    return last, prepared
