# SPDX-License-Identifier: GPL-2.0-or-later
"""
The patch series as commits and as files.
"""

import argparse
from pathlib import Path
from typing import List, Optional, Sequence

from kuf import cli
from kuf.build import (
    check,
    mail,
    series,
    stamp,
)
from kuf.build.project import Options, Project
from kuf.build.tree import KINDS, Tree
from kuf.cli import Failure
from kuf.paths import TOP


DESCRIPTION = '''\
  export   write the commits of the prepared trees to the repository
  check    prove that the files there are good (--no-build: but for building)
  mail     build/mail/TREE/PART: each part of a series with its cover letter
           and its patches numbered, as git send-email takes them.  The
           overlay's files are in those of QEMU that use them first, and git am
           makes the prepared tree of the whole of it.

TREE is qemu or linux; without one, all that are prepared.'''


def _replace(tree: Tree, new: Path) -> None:
    """
    Make the repository's files those of a folder; one that has not changed is
    not touched.
    """
    tree.series.mkdir(parents=True, exist_ok=True)
    written = {path.name for path in new.iterdir()}
    for patch in tree.patches():
        if patch.name not in written:
            patch.unlink()
            print(f'removed  {tree.kind.series}/{patch.name}')
    for path in sorted(new.iterdir()):
        patch = tree.series / path.name
        if not patch.exists() or patch.read_bytes() != path.read_bytes():
            path.rename(patch)
            print(f'written  {tree.kind.series}/{patch.name}')


def export(tree: Tree) -> None:
    """Write the commits of the prepared tree to the repository."""
    if tree.git('status', '--porcelain', '--untracked-files=no'):
        raise Failure(f'build/src/{tree.name} has edits that are not '
                      "committed; commit them (or 'git stash'), then export "
                      'again')
    if tree.git.find('symbolic-ref', '-q', '--short', 'HEAD') != 'fork':
        raise Failure(f"build/src/{tree.name} is not on its branch 'fork'; "
                      'check it out, then export again')
    new = tree.project.build / f'.export-{tree.name}'
    stamp.remove(new)
    series.write(tree.git, new)
    _replace(tree, new)
    stamp.remove(new)
    series.mark_applied(tree)
    print(f'{tree.kind.title}: {len(tree.patches())} patches in '
          f'{tree.kind.series}')


def write_mails(tree: Tree) -> None:
    """The series as it can be sent."""
    tree.check_clean()
    folder = tree.project.build / 'mail' / tree.name
    mail.export(tree, folder)
    for part in sorted(folder.iterdir()):
        count = len(list(part.glob('*.patch')))
        print(f"{tree.kind.title}: {cli.counted(count, 'mail')} in "
              f'build/mail/{tree.name}/{part.name}')


def arguments(args: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """What is asked for."""
    parser = cli.parser('scripts/patches', DESCRIPTION)
    parser.add_argument('verb', choices=('export', 'check', 'mail'))
    parser.add_argument('--no-build', action='store_true')
    parser.add_argument('tree', nargs='*', choices=[*KINDS, []],
                        metavar='TREE')
    return parser.parse_intermixed_args(args)


def _work() -> int:
    """What is asked for, of each tree in question."""
    args = arguments()
    project = Project(TOP)
    options = Options.load(project)
    names: List[str] = args.tree or \
        (['qemu', 'linux'] if options.host else ['qemu'])
    for name in names:
        tree = Tree(project, name)
        tree.require()
        if args.verb == 'export':
            export(tree)
        elif args.verb == 'mail':
            write_mails(tree)
        else:
            check.check(tree, options.source(name), not args.no_build)
    return 0


def main() -> int:
    """The program."""
    return cli.run('scripts/patches', _work)
