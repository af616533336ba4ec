# SPDX-License-Identifier: GPL-2.0-or-later
"""
Generate what is generated of the documents.

That is the parts between marks, see kuf/documents/blocks.py, which are made of
the source.  What documents say of the source besides is checked.  With --check
nothing is written: the exit status says whether all is up to date.
"""

import argparse
from pathlib import Path
from typing import Iterator

from kuf import cli
from kuf.cli import Failure
from kuf.documents import files, messages, refusals
from kuf.documents.blocks import Blocks, fill
from kuf.paths import TOP


PROG = 'scripts/documents'

BLOCKS: Blocks = {**refusals.BLOCKS}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--check', action='store_true',
                        help='write nothing, say what is out of date')
    return parser.parse_args()


def documents() -> Iterator[Path]:
    """All that may have generated parts."""
    yield from sorted(TOP.glob('*.md'))
    for pattern in ('*.md', '*.rst'):
        yield from sorted((TOP / 'docs').rglob(pattern))


def out_of_date(path: Path) -> Failure:
    """It is not what would be generated."""
    return Failure(f"{path.relative_to(TOP)} is not what is generated; run "
                   f"'{PROG}' and commit what it changes")


def make_document(path: Path, check: bool) -> None:
    """One document's generated parts."""
    old = path.read_text(encoding='utf-8')
    new = fill(old, BLOCKS, str(path.relative_to(TOP)))
    if new == old:
        return
    if check:
        raise out_of_date(path)
    path.write_text(new, encoding='utf-8')
    print(path.relative_to(TOP))


def work() -> int:
    """All of them."""
    check = parse_args().check
    for path in documents():
        make_document(path, check)
    messages.check()
    files.check()
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
