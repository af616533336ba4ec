# SPDX-License-Identifier: GPL-2.0-or-later
"""
The overlay: new files of the fork, each at the path that it has in QEMU.

In a prepared tree they are links to the repository that git does not see.
"""

import os
from pathlib import Path
from typing import List, Sequence

from kuf.build.git import Git
from kuf.cli import Failure


# What editors and interpreters leave behind.
LEFT_OVER = ('.orig', '.rej', '~', '.pyc')

# These are of the project's own build: QEMU's know a new file by a patch.
OURS = 'meson.build'


def files(top: Path, folders: Sequence[str]) -> List[str]:
    """The files of these folders, relative to the repository's root."""
    found = (path for folder in folders for path in (top / folder).rglob('*')
             if path.is_file() and path.name != OURS
             and not path.name.endswith(LEFT_OVER))
    return sorted(str(path.relative_to(top)) for path in found)


def _link(top: Path, tree: Path, name: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(top / name, path.parent))


def lay(top: Path, tree: Path, names: Sequence[str], explain: str) -> None:
    """
    Link these files into a tree, and unlink what has left.  EXPLAIN is what
    to do about a file that the base has itself.
    """
    git = Git(tree)
    theirs = set(git('ls-tree', '-r', '--name-only', '-z', 'base').split('\0')
                 if names else ())
    for name in theirs.intersection(names):
        raise Failure(f"'{name}' {explain}")
    for name in names:
        if not (tree / name).is_symlink():
            _link(top, tree, name)
    laid = tree / '.git-overlay'
    if laid.exists():
        before = laid.read_text(encoding='utf-8').splitlines()
        for name in set(before) - set(names):
            (tree / name).unlink(missing_ok=True)
    laid.write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
    exclude = Path(git('rev-parse', '--path-format=absolute',
                       '--git-common-dir')) / 'info/exclude'
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text('/.git-overlay*\n' +
                       ''.join(f'/{name}\n' for name in names),
                       encoding='utf-8')
