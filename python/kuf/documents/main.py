# SPDX-License-Identifier: GPL-2.0-or-later
"""
Generate what is generated of the documents.

That is the parts between marks, see kuf/documents/blocks.py, and the plots in
docs/results.  They are made of the source and of bench/results, so this
measures nothing.  With --check nothing is written: the exit status says
whether all is up to date.
"""

import argparse
from pathlib import Path
from typing import Callable, Dict, Iterator

from kuf import cli
from kuf.cli import Failure
from kuf.documents import (
    charts,
    demonstration,
    feature_off,
    files,
    headline,
    links,
    messages,
    missing_page,
    postcopy,
    present_memory,
    refusals,
    reliability,
    scaling,
    virsh,
)
from kuf.documents.blocks import Blocks, fill
from kuf.documents.charts import Plot
from kuf.paths import TOP


PROG = 'scripts/documents'

PLOTS_FOLDER = TOP / 'docs/results'

PARTS = (demonstration, feature_off, missing_page, postcopy, present_memory,
         scaling)
BLOCKS: Blocks = {
    name: block for part in (*PARTS, headline, refusals, reliability, virsh)
    for name, block in part.BLOCKS.items()}
PLOTS: Dict[str, Callable[[], Plot]] = {
    name: plot for part in PARTS for name, plot in part.PLOTS.items()}


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


def make_plot(name: str, plot: Plot, check: bool) -> None:
    """One plot; what its numbers are decides."""
    path = PLOTS_FOLDER / f'{name}.svg'
    new = charts.svg(plot)
    if path.exists() and charts.texts(path.read_text(
            encoding='utf-8')) == charts.texts(new):
        return
    if check:
        raise out_of_date(path)
    PLOTS_FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_text(new, encoding='utf-8')
    print(path.relative_to(TOP))


def generate(check: bool = False) -> None:
    """All of them."""
    for path in documents():
        make_document(path, check)
    for name, plot in PLOTS.items():
        make_plot(name, plot(), check)
    for path in documents():
        links.check(path)
    messages.check()
    virsh.check()
    files.check()


def work() -> int:
    """What the command line says."""
    generate(parse_args().check)
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
