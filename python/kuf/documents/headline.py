# SPDX-License-Identifier: GPL-2.0-or-later
"""
All results in some lines, for the first page.
"""

from statistics import median

from kuf.documents import (
    feature_off,
    missing_page,
    postcopy,
    scaling,
)
from kuf.documents.blocks import Blocks
from kuf.report.figures import CALLS, Figure


def share(figure: Figure) -> str:
    """The median of a figure's shares."""
    return f'{median(one.value for one in postcopy.all_shares(figure)):.2f}'


def headline() -> str:
    """What it comes to."""
    return (f'In short: {missing_page.headline()}; over many kinds of guests, '
            f'the guest loses {share(postcopy.LOST)} of the time that it loses '
            f'with userfaultfd, and QEMU makes {share(CALLS)} of the system '
            'calls a page, in the median; two vCPUs have their faults '
            f'resolved {scaling.advantage():.1f} times as fast; and while it '
            'is off, QEMU executes at most '
            f"{feature_off.worst()['percent']:.2f} % more instructions. "
            '[docs/results.md](docs/results.md) says how that was measured, '
            'in an emulated host.')


BLOCKS: Blocks = {'headline': headline}
