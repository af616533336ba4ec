# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the demonstration shows, and what it measures, as documents.
"""

from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table, words
from kuf.report.definitions import DEFINITIONS
from kuf.report.figures import (
    CALLS,
    FIGURES,
    LAST_PAGE,
    SWITCHES,
    Figure,
    all_modes,
    cell,
    guest_text,
    link_text,
    runs_text,
    sentence,
    verdict,
)


SHOWN = (LAST_PAGE, CALLS, SWITCHES)


def record() -> Data:
    """A report of demo/run."""
    return newest('demo').data


def panel(data: Data, figure: Figure) -> Panel:
    """A figure, by mode."""
    return Panel(figure.label(data), [
        Row(mode, [figure.median(data, mode)]) for mode in all_modes(data)])


def plot() -> Plot:
    """Some of the figures."""
    data = record()
    return Plot([panel(data, figure) for figure in SHOWN], ['a mode'], '',
                'Emulated host, one processor; '
                f"{newest('demo').versions.text()}; {runs_text(data)}",
                form=LAST_PAGE.text)


def answer() -> str:
    """The verdict, and the plot."""
    result = verdict(record())
    return (f'**{result.word}**: {result.text}.\n\n'
            f'![{alt(plot())}](results/demo.svg)')


def figures() -> str:
    """What the screen has."""
    data = record()
    return (sentence(f'{guest_text(data)}; {link_text(data)}') + '\n\n'
            + table([f'median of {runs_text(data)}', *all_modes(data)], [
                [figure.label(data), *(cell(data, figure, mode)
                                       for mode in all_modes(data))]
                for figure in FIGURES]))


def definitions() -> str:
    """Each figure: what it means, how it is measured, where it is."""
    return words(['figure', 'what', 'how', 'in report.json'], [
        [one.name, one.what.format(us='us'), one.how,
         ', '.join(f'`{field}`' for field in one.fields)]
        for one in DEFINITIONS])


def fields() -> str:
    """What report.json has of each figure."""
    return words(['field', 'figure'], [
        [', '.join(f'`{field}`' for field in one.fields), one.name]
        for one in DEFINITIONS])


BLOCKS: Blocks = {
    'demo-answer': answer,
    'demo-figures': figures,
    'definitions': definitions,
    'fields': fields,
}
PLOTS = {'demo': plot}
