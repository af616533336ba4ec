# SPDX-License-Identifier: GPL-2.0-or-later
"""
All results in some lines, for the first page.
"""

from statistics import median

from kuf.documents import feature_off, missing_page, postcopy
from kuf.documents.blocks import Blocks
from kuf.report.figures import CALLS, LAST_PAGE


def share(name: str) -> str:
    """The median of a figure's shares."""
    figure = {'duration': LAST_PAGE, 'calls': CALLS}[name]
    return f'{median(one.value for one in postcopy.all_shares(figure)):.2f}'


def headline() -> str:
    """What it comes to."""
    return (f'In short: {missing_page.headline()}; over many kinds of guests, '
            f"postcopy takes {share('duration')} of userfaultfd's time and "
            f"makes {share('calls')} of its system calls a page, in the "
            f'median; and while it is off, QEMU executes at most '
            f"{feature_off.worst()['percent']:.2f} % more instructions. "
            '[docs/results.md](docs/results.md) says how that was measured, '
            'in an emulated host.')


BLOCKS: Blocks = {'headline': headline}
