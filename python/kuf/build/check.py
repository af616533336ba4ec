# SPDX-License-Identifier: GPL-2.0-or-later
"""
Whether a series is good: its files are as they are exported, what is mailed is
what is built, checkpatch passes, and each patch builds with those before it.
"""

import re
import subprocess
from typing import (
    List,
    Optional,
    Sequence,
    TypeVar,
)

from kuf.build import mail, series, stamp
from kuf.build.fold import fold
from kuf.build.per_patch import BUILDS
from kuf.build.tree import Tree
from kuf.cli import Failure


T = TypeVar('T')

# Files that a compiler or a generator reads; a patch without one needs no
# build.
CODE = re.compile(
    r'\.(c|h|S|inc|json|hx|py|lds)$|(^|/)(meson\.build|meson_options\.txt|'
    r'Kconfig|Makefile|Kbuild|trace-events|[^/]*\.mak|[^/]*\.tbl)')

# Of the overlay, what checkpatch can read.
CHECKED = ('.c', '.h', '.inc', '.py', '.sh', '.json', '.hx')

# New files of Linux are all in folders that MAINTAINERS covers.
CHECKPATCH = {
    'qemu': (),
    'linux': ('--strict', '--no-tree', '--ignore', 'FILE_PATH_CHANGES'),
}


def check_current(tree: Tree, source: str) -> None:
    """The prepared tree must be of the base and the series in question."""
    if not tree.is_of(source):
        raise Failure(f"build/src/{tree.name} is of '{tree.subject('base')}', "
                      f'which is not what base/{tree.name} asks for now; run '
                      './configure')
    tree.check_clean()


def check_files(tree: Tree) -> None:
    """They apply to the clean base, and are what an export would write."""
    patches = tree.patches()
    new = tree.project.build / f'.export-{tree.name}'
    stamp.remove(new)
    with series.scratch(tree, patches) as git:
        series.am(tree, git, patches)
        series.write(git, new)
    for patch in patches:
        written = new / patch.name
        if not written.exists() or written.read_bytes() != patch.read_bytes():
            raise Failure(f'{tree.kind.series}/{patch.name} is not as '
                          "'make export-patches' writes it; apply it with "
                          './configure and export')
    stamp.remove(new)
    print(f'{tree.kind.title}: {len(patches)} patches apply to '
          f"{tree.subject('base')}", flush=True)


def check_mails(tree: Tree) -> None:
    """What is mailed gives the prepared tree."""
    folder = tree.project.build / f'.mail-{tree.name}'
    count = len(mail.export(tree, folder))
    stamp.remove(folder)
    print(f'{tree.kind.title}: {count} patches, as they are mailed, give '
          'the prepared tree', flush=True)


def _checkpatch(tree: Tree, *args: object) -> bool:
    return subprocess.run(
        ['perl', 'scripts/checkpatch.pl', '-q', *map(str, args)],
        cwd=tree.path, check=False).returncode == 0


def _odd(tree: Tree, options: Sequence[str],
         files: Sequence[T]) -> Optional[T]:
    """
    The first file that checkpatch has something to say about.  Most of its time
    is its start, so that it is asked about all of them at once.
    """
    if not files or _checkpatch(tree, *options, *files):
        return None
    return next((file for file in files
                 if not _checkpatch(tree, *options, file)), files[0])


def check_style(tree: Tree) -> None:
    """checkpatch of the base, over the patches and the overlay's files."""
    patch = _odd(tree, CHECKPATCH[tree.name], tree.patches())
    if patch:
        raise Failure('checkpatch has something to say about '
                      f'{tree.kind.series}/{patch.name}; correct the commit '
                      'and export')
    # By its path in QEMU: some rules are only for some folders.
    name = _odd(tree, ['-f'], [name for name in tree.overlay_files()
                               if name.endswith(CHECKED)])
    if name:
        raise Failure(f'checkpatch has something to say about {name}')
    print(f'{tree.kind.title}: checkpatch passes', flush=True)


def _code(changed: List[str]) -> List[str]:
    return [name for name in changed
            if CODE.search(name) and not name.startswith('Documentation/')]


def check_build(tree: Tree, last: str) -> None:
    """Every patch builds with only those before it."""
    checkout = tree.project.build / 'check/src' / tree.name
    log = tree.project.build / f'check/{tree.name}.log'
    git = tree.add_worktree(checkout)
    for commit in git('rev-list', '--reverse', f'base..{last}').split():
        git('checkout', '-q', commit)
        changed = _code(git('diff', '--name-only', 'HEAD^').splitlines())
        if not changed:
            continue
        subject = git('log', '-1', '--format=%s')
        print(f"{tree.kind.title}: building with '{subject}'", flush=True)
        try:
            BUILDS[tree.name](tree.project, checkout, changed, log)
        except Failure as failure:
            raise Failure(f"{tree.kind.title} does not build with '{subject}' "
                          f'as the last patch (see {log}); correct the '
                          'commit and export') from failure
    tree.drop_worktree(checkout)


def check(tree: Tree, source: str, building: bool) -> None:
    """All of it."""
    check_current(tree, source)
    check_files(tree)
    check_style(tree)
    check_mails(tree)
    if building:
        check_build(tree, fold(tree)[0])
