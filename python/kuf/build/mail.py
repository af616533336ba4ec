# SPDX-License-Identifier: GPL-2.0-or-later
"""
A series as git send-email takes it: each part with its cover letter and its
patches numbered.

A series has parts that stand alone, one on the other, if there are files
PART.cover beside its patches: "First:" names the first patch of the part,
"Subject:" and the text after an empty line are the cover letter.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from kuf.build import series, stamp
from kuf.build.fold import fold
from kuf.build.git import Git
from kuf.build.tree import Tree
from kuf.cli import Failure


@dataclass(frozen=True)
class Cover:
    """A cover letter."""

    path: Path
    first: str
    subject: str
    text: str

    @classmethod
    def read(cls, path: Path) -> 'Cover':
        """The cover letter that a file holds."""
        head, _, text = path.read_text(encoding='utf-8').partition('\n\n')
        keys = dict(line.split(': ', 1) for line in head.splitlines())
        for key in ('First', 'Subject'):
            if key not in keys:
                raise Failure(f"'{path}' has no line '{key}:' at its beginning")
        return cls(path, keys['First'].strip(), keys['Subject'].strip(), text)

    def fill_in(self, path: Path) -> None:
        """What git leaves to be filled in of a cover letter."""
        text = path.read_text(encoding='utf-8')
        text = text.replace('*** SUBJECT HERE ***', self.subject, 1)
        text = text.replace('*** BLURB HERE ***\n', self.text, 1)
        path.write_text(text, encoding='utf-8')


@dataclass(frozen=True)
class Part:
    """A part of a series: its commits are those after BASE up to LAST."""

    cover: Optional[Cover]
    base: str
    last: str

    @property
    def name(self) -> str:
        """That of its cover letter's file, and of the folder with its mails."""
        return self.cover.path.stem if self.cover else 'series'


def _first(git: Git, last: str, cover: Cover) -> str:
    """The commit that a part begins with."""
    for line in git('log', '--format=%H %s', f'base..{last}').splitlines():
        commit, _, subject = line.partition(' ')
        if subject == cover.first:
            return commit
    raise Failure(f"'{cover.path}' begins with a patch that the series does "
                  "not have; correct its line 'First:'")


def parts(tree: Tree, last: str) -> List[Part]:
    """The parts of the commits above the base."""
    covers = sorted(tree.series.glob('*.cover'), reverse=True)
    start = tree.git('rev-parse', 'base')
    if not covers:
        return [Part(None, start, last)]
    found: List[Part] = []
    # From the last one to the first: each ends before the next one begins.
    for path in covers:
        cover = Cover.read(path)
        base = tree.git('rev-parse', _first(tree.git, last, cover) + '^')
        found.insert(0, Part(cover, base, last))
        last = base
    if last != start:
        raise Failure(f'{tree.kind.series} has patches that no cover letter '
                      "(*.cover) is for; correct 'First:' of the first one")
    return found


def _write_part(tree: Tree, part: Part, folder: Path) -> List[Path]:
    """A part's mails; returns those that carry a patch."""
    who = tree.git('log', '-1', '--format=%an%n%ae%n%ad', '--date=raw',
                   part.last).split('\n')
    # git writes the cover letter in its committer's name.
    env = {f'GIT_COMMITTER_{key}': value
           for key, value in zip(('NAME', 'EMAIL', 'DATE'), who)}
    series.format_patch(
        tree.git, f'{part.base}..{part.last}', folder, '--numbered',
        '--cover-letter' if part.cover else '--no-cover-letter', env=env)
    mails = sorted(folder.iterdir())
    if part.cover:
        part.cover.fill_in(mails.pop(0))
    return mails


def export(tree: Tree, folder: Path) -> List[Path]:
    """
    Write FOLDER/PART of each part; returns all patches in their order.  What
    git am makes of them on a clean base is the prepared tree.
    """
    last, prepared = fold(tree)
    stamp.remove(folder)
    folder.mkdir(parents=True)
    patches = []
    for part in parts(tree, last):
        patches += _write_part(tree, part, folder / part.name)
    prove(tree, patches, prepared)
    return patches


def prove(tree: Tree, patches: List[Path], prepared: str) -> None:
    """They apply to the clean base, and give this tree, byte by byte."""
    with series.scratch(tree, patches) as git:
        series.am(tree, git, patches)
        if git('rev-parse', 'HEAD^{tree}') != prepared:
            differ = git('diff', '--name-only', 'HEAD', prepared).split('\n')
            raise Failure(f"the exported series of {tree.kind.title} gives "
                          f"another '{differ[0]}' than the prepared tree has; "
                          'run ./configure, then export again')
