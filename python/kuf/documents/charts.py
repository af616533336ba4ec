# SPDX-License-Identifier: GPL-2.0-or-later
"""
The documents' plots, as SVG files.

Each says in its last line what it was measured on.  All numbers are there as
text, too, so that a plot can be read without colours, and be compared.
"""

import io
import re
from typing import (
    Any,
    Callable,
    List,
    NamedTuple,
    Optional,
    Sequence,
)


INK, SOFT = '#1c1e21', '#c9ced6'
STYLE = {
    'font.family': 'sans-serif', 'font.size': 9,
    'svg.fonttype': 'none', 'svg.hashsalt': 'documents',
    'axes.spines.top': False, 'axes.spines.right': False,
    'axes.grid': True, 'axes.axisbelow': True, 'grid.color': SOFT,
    'grid.linewidth': 0.5, 'text.color': INK, 'axes.labelcolor': INK,
    'axes.titlesize': 9.5, 'axes.titlelocation': 'left',
    'axes.titleweight': 'bold',
}
WIDTH, LINE, MARGIN = 8.4, 0.24, 1.05

# Blue is userfaultfd, orange is KVM userfault; with preemption it is paler.
COLOURS = {'userfaultfd': '#0b5d94', 'KVM userfault': '#b34700',
           'KVM userfault, with preemption': '#e8a33d'}
GREY = '#6b7785'
MARKERS = ('o', 'D')
# Of shares that are not far apart.
TICKS = [step * 10 ** power for power in range(-3, 4) for step in (1, 2, 5)]


class Row(NamedTuple):
    """A line of a plot: values by series, None if there is none."""
    label: str
    values: Sequence[Optional[float]]


class Panel(NamedTuple):
    """One of several plots that are side by side."""
    title: str
    rows: List[Row]


class Plot(NamedTuple):
    """A plot; panels have the same lines, and the same series."""
    panels: List[Panel]
    series: Sequence[str]
    # What is at 1, for shares; nothing for bars.
    reference: str
    # What it was measured on, how often, and when.
    where: str
    # How a value is shown.
    form: Callable[[float], str] = '{:.2f}'.format
    log: bool = False


def shares(axes: Any, panel: Panel, plot: Plot) -> None:
    """Points left and right of 1."""
    axes.axvline(1, color=INK, linewidth=1)
    for index, name in enumerate(plot.series):
        points = [(row.values[index], y) for y, row in enumerate(panel.rows)
                  if row.values[index] is not None]
        axes.plot([x for x, _ in points], [y for _, y in points],
                  MARKERS[index], color=COLOURS.get(name, GREY), markersize=5.5,
                  linestyle='none', label=name)
    axes.set_xscale('log')
    low, high = axes.get_xlim()
    if high < 100 * low:
        axes.set_xticks([tick for tick in TICKS if low <= tick <= high])
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter('')


def bars(axes: Any, panel: Panel, plot: Plot) -> None:
    """Bars, one for each series."""
    height = 0.8 / len(plot.series)
    for index, name in enumerate(plot.series):
        axes.barh([y - 0.4 + height * (index + 0.5)
                   for y in range(len(panel.rows))],
                  [row.values[index] or 0 for row in panel.rows],
                  height=height * 0.9, label=name,
                  color=COLOURS.get(name, GREY))
    if plot.log:
        axes.set_xscale('log')
        axes.set_xlim(left=1)
    axes.xaxis.set_major_formatter('{x:,.10g}')


def values_text(row: Row, plot: Plot) -> str:
    """A line's values, as text."""
    return '  '.join('-' if value is None else plot.form(value)
                     for value in row.values)


def dress(axes: Any, panel: Panel, plot: Plot) -> None:
    """What all panels have: values at the right, lines from the top."""
    axes.set_title(panel.title)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.tick_params(axis='y', length=0)
    axes.grid(False, axis='y')
    for y, row in enumerate(panel.rows):
        axes.annotate(values_text(row, plot), (1.01, y), va='center',
                      xycoords=('axes fraction', 'data'), fontsize=8)


def draw(canvas: Any, plot: Plot) -> None:
    """All panels, and what they have in common."""
    several = canvas.subplots(1, len(plot.panels), sharey=True, squeeze=False)
    for axes, panel in zip(several[0], plot.panels):
        (shares if plot.reference else bars)(axes, panel, plot)
        dress(axes, panel, plot)
    rows = plot.panels[0].rows
    several[0][0].set_yticks(range(len(rows)), [row.label for row in rows])
    if len(plot.series) > 1:
        several[0][0].legend(loc='lower left', bbox_to_anchor=(0, 1.1),
                             ncols=len(plot.series), frameon=False)
    canvas.supxlabel('\n'.join(filter(None, (plot.reference, plot.where))),
                     fontsize=8)


def svg(plot: Plot) -> str:
    """The file."""
    # Whoever only checks texts does without.
    # pylint: disable=import-outside-toplevel
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    text = io.StringIO()
    lines = len(plot.panels[0].rows) * max(1, 0.6 * len(plot.series) *
                                           (not plot.reference))
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, MARGIN + LINE * lines),
                        layout='constrained', facecolor='white')
        draw(canvas, plot)
        canvas.savefig(text, format='svg', metadata={'Date': None})
    return text.getvalue()


def texts(file: str) -> List[str]:
    """
    All text in such a file.  Each version of matplotlib draws curves in another
    way; what they show is in the text.
    """
    return re.findall(r'<text [^>]*>([^<]*)</text>', file)


def alt(plot: Plot) -> str:
    """What it shows, for those who can't see it; tables have the values."""
    return 'Plot: ' + '; '.join(panel.title for panel in plot.panels)
