# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the fork costs while nothing is migrated: bench/idle-cost's record, and
the kernel series' part of bench/demand-paging's, as documents.
"""

from statistics import median
from typing import List

from kuf.documents import missing_page
from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table


def digest(measured: Data) -> Data:
    """What is kept of bench/idle-cost's numbers."""
    return {name: measured[name] for name in ('boots', 'pairs', 'rows')}


def record() -> Data:
    """What was measured."""
    return newest('feature-off').data


def spread(values: List[float]) -> str:
    """The median, and how far the boots are apart."""
    return f'{median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})'


def cost_table() -> str:
    """Both QEMUs."""
    return table(
        ['instructions of', 'base', 'fork', 'difference'],
        [[row['title'], spread(row['base']), spread(row['fork']),
          f"{row['difference']:+,.1f} ({row['percent']:+.2f} %)"]
         for row in record()['rows']])


def measured_text() -> str:
    """How often, and on what."""
    found = newest('feature-off')
    return (f"{found.data['pairs']} pairs of rounds in each of "
            f"{found.data['boots']} boots. {found.versions.text()}. "
            f'{found.note}').strip()


def plot() -> Plot:
    """QEMU's part."""
    found = newest('feature-off')
    return Plot([Panel('instructions more than without the fork, %', [
        Row(row['title'], [row['percent']]) for row in found.data['rows']])],
        ['fork'], '', 'Emulated host, one processor; '
        f"{found.versions.text()}; medians of {found.data['boots']} boots",
        form='{:+.2f} %'.format)


def worst() -> Data:
    """What costs the most more."""
    found: Data = max(record()['rows'], key=lambda row: float(row['percent']))
    return found


def answer() -> str:
    """The answer, and the plot."""
    most_of_all = worst()
    least, most = missing_page.off_percent()
    return (f"**QEMU: at most {most_of_all['percent']:+.2f} %** "
            f"({most_of_all['difference']:+.1f} instructions, "
            f"{most_of_all['title']}). "
            f'**The kernel: {least:+.2f} to {most:+.2f} %** of the '
            'instructions of a fault, where no memslot has the flag.\n\n'
            f'![{alt(plot())}](results/feature-off.svg)')


BLOCKS: Blocks = {
    'feature-off-answer': answer,
    'feature-off-measured': measured_text,
    'feature-off-costs': cost_table,
}
PLOTS = {'feature-off': plot}
