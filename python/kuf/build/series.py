# SPDX-License-Identifier: GPL-2.0-or-later
"""
A series as files and as commits: applied to a prepared tree, and written.
"""

from contextlib import contextmanager
from pathlib import Path
import re
from typing import (
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
)

from kuf.build import stamp
from kuf.build.git import Git, environment
from kuf.build.log import CommandFailed, Log
from kuf.build.tree import Tree
from kuf.cli import Failure


# How git am names the files that it could not change.
FAILED = re.compile(
    r'^error: (?:patch failed: (.*):\d+|(.*): (?:does not exist in index|'
    r'already exists in index|No such file or directory))$', re.M)


def _stamp(tree: Tree) -> Path:
    return tree.path / '.git/series.inputs'


def inputs(tree: Tree) -> str:
    """What the applied series depends on: the base and every patch."""
    parts: List[object] = [tree.git('rev-parse', 'base') + '\n']
    for patch in tree.patches():
        parts += [patch.name + '\n', patch]
    return stamp.checksum(*parts)  # type: ignore


def mark_applied(tree: Tree) -> None:
    """The tree is at the series as it stands in the repository."""
    tree.git('tag', '-f', 'applied')
    stamp.put(_stamp(tree), inputs(tree))


def touched(tree: Tree, patches: Sequence[Path]) -> List[str]:
    """The files that patches touch."""
    found = tree.git('apply', '--numstat', *patches) if patches else ''
    return sorted({line.split('\t')[2] for line in found.splitlines()})


@contextmanager
def scratch(tree: Tree, patches: Sequence[Path]) -> Iterator[Git]:
    """
    A work tree at the base with just the files that PATCHES touch, so that a
    series is tried in a second even on Linux.
    """
    folder = tree.path.with_name(f'.{tree.name}-am')
    # Git's own files there say what is ignored, and how hunks are named.
    names = ['.gitattributes', '.gitignore', *touched(tree, patches)]
    git = tree.add_worktree(folder, '--no-checkout')
    try:
        git('sparse-checkout', 'set', '--no-cone', '--stdin',
            stdin=''.join(f'/{name}\n' for name in names).encode())
        git('read-tree', '-mu', 'HEAD')
        yield git
    finally:
        tree.drop_worktree(folder)


def _does_not_apply(tree: Tree, patch: Path, log: Log) -> Failure:
    """Where it does not apply, and whose fault that is."""
    text = log.path.read_text(encoding='utf-8', errors='replace')
    where = sorted({one or other for one, other in FAILED.findall(text)})
    said = f"{tree.kind.series}/{patch.name} does not apply to " \
        f"'{tree.subject('base')}'" \
        f"{' in ' if where else ''}{' '.join(where)} (see {log.path}); "
    wanted = tree.base.wanted
    if tree.base.is_wanted(tree.version(tree.path)):
        return Failure(said + 'correct the patch, then run the same command '
                       'again')
    return Failure(
        said + f'the series is made for {wanted}: redo the patch as '
        "CONTRIBUTING.md says under 'A new stable update', or give a "
        f'{tree.kind.title} {wanted} with --{tree.name}-source')


def am(tree: Tree, git: Git, patches: Sequence[Path]) -> None:
    """Commit patches in a work tree; git am takes no fuzz."""
    log = Log(tree.project.log('am'))
    command = git.command('am', '--keep-non-patch',
                          '--committer-date-is-author-date')
    try:
        log.run(*command, *patches, env=environment())
    except CommandFailed as failed:
        # git am counts from 1, and says where it has stopped.
        stopped = Path(git('rev-parse', '--path-format=absolute', '--git-path',
                           'rebase-apply/next'))
        number = int(stopped.read_text(encoding='ascii'))
        raise _does_not_apply(tree, patches[number - 1], log) from failed


def apply(tree: Tree) -> None:
    """
    Bring the prepared tree to the series as it stands in the repository.  Only
    files that differ are written.  The same series always gives the same
    commits, so it is harmless if a run was killed before the stamp.
    """
    if stamp.is_at(_stamp(tree), inputs(tree)):
        return
    patches = tree.patches()
    with scratch(tree, patches) as git:
        am(tree, git, patches)
        applied = git('rev-parse', 'HEAD')
    if tree.git('rev-parse', 'HEAD') != applied:
        tree.check_clean()
        tree.git('reset', '-q', '--keep', applied)
    mark_applied(tree)
    print(f'{tree.kind.title}: {len(patches)} patches on '
          f"{tree.subject('base')}", flush=True)


def format_patch(git: Git, commits: str, folder: Path, *options: str,
                 env: Optional[Mapping[str, str]] = None) -> None:
    """Commits as files that depend on nothing but the commits."""
    git('-c', 'diff.algorithm=myers', '-c', 'core.abbrev=12', 'format-patch',
        '-q', '--zero-commit', '--no-signature', *options, '-o', folder,
        commits, env=env)


def write(git: Git, folder: Path, last: str = 'HEAD') -> None:
    """All commits above the base, as the repository has them."""
    folder.mkdir(parents=True, exist_ok=True)
    format_patch(git, f'base..{last}', folder, '--full-index', '--no-numbered',
                 '--no-renames')
