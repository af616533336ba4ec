# SPDX-License-Identifier: GPL-2.0-or-later
"""
The report's plots.

Colours are names here that the page's style sheet gives a value, so that a mode
has the same one everywhere, by day and by night.
"""

from functools import partial
from html import escape
import io
import re
from statistics import median
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

from kuf.report.figures import (
    CALLS,
    DOWNTIME,
    HUGE,
    LAST_PAGE,
    LATENCY,
    RATE,
    SWITCHES,
    Data,
    Figure,
    Run,
    all_modes,
    all_runs,
    cell,
    dig,
    number,
    runs_of,
    scaled,
    units,
)


INK, SOFT = '#0a0a01', '#0a0a02'
WIDTH = 5.4
STYLE = {
    'font.family': 'sans-serif', 'font.size': 9,
    'svg.fonttype': 'none', 'svg.hashsalt': 'demo',
    'text.color': INK, 'axes.edgecolor': SOFT, 'axes.labelcolor': INK,
    'xtick.color': INK, 'ytick.color': INK,
    'axes.facecolor': 'none', 'figure.facecolor': 'none',
    'axes.spines.top': False, 'axes.spines.right': False,
    'axes.grid': True, 'axes.axisbelow': True, 'grid.color': SOFT,
    'grid.linewidth': 0.5, 'axes.titlesize': 9.5,
    'axes.titlelocation': 'left', 'axes.titleweight': 'bold',
    'axes.titlecolor': INK,
}

# Light and dark by mode: blue is userfaultfd, orange is KVM userfault, which
# nobody mixes up; with preemption both are paler, and lines are broken.
PALETTE = {
    'userfaultfd': ('#0b5d94', '#4f9fe0'),
    'userfaultfd+preempt': ('#3f8fc9', '#a9d4f7'),
    'kvm-userfault': ('#b34700', '#f5803a'),
    'kvm-userfault+preempt': ('#cf7a00', '#ffc96b'),
}
OTHERS = [('#6b4aa0', '#b39ddb'), ('#2e7d4f', '#81c995')]


def mode_colours(data: Data) -> List[Tuple[str, str]]:
    """Light and dark, in the order of the modes."""
    return [PALETTE.get(mode, OTHERS[index % len(OTHERS)])
            for index, mode in enumerate(all_modes(data))]


def stand_in(index: int) -> str:
    """Stands for a mode's colour while a plot is made."""
    return f'#0a0b{index:02x}'


def dashes(mode: str) -> Tuple[int, ...]:
    """A mode's kind of line."""
    return (5, 2) if '+' in mode else ()


def line_style(data: Data, mode: str) -> Dict[str, Any]:
    """The same as matplotlib wants it."""
    broken = dashes(mode)
    return {'color': stand_in(all_modes(data).index(mode)),
            'linestyle': (0, broken) if broken else 'solid'}


def say_missing(axes: Any) -> None:
    """A plot of nothing says so."""
    axes.text(0.5, 0.5, 'not measured', transform=axes.transAxes, ha='center',
              va='center')
    axes.set(xticks=[], yticks=[])


def plot_rate(axes: Any, data: Data, mode: str) -> None:
    """The guest's rate through a migration."""
    runs = [run for run in runs_of(data, mode) if run.get('rate')]
    axes.set_title(mode, pad=14)
    axes.set(xlabel=f"{units(data)['s']} since the guest's start in the "
             'destination', ylabel=f"pages/{units(data)['s']}")
    if not runs:
        say_missing(axes)
        return
    style = line_style(data, mode)
    colour = style['color']
    for run in runs:
        axes.plot(*seconds(run['rate']), drawstyle='steps-pre', color=colour,
                  linewidth=0.8, alpha=0.5)
    axes.plot(*(median_rate(runs) if len(runs) > 1
                else seconds(runs[0]['rate'])),
              drawstyle='steps-pre', color=colour, linewidth=2)
    mark_phases(axes, runs, colour)
    left, right, top = rate_limits(data)
    axes.set(xlim=(left, right), ylim=(0, top))
    axes.yaxis.set_major_formatter('{x:,.0f}')


def seconds(points: List[List[float]]) -> Tuple[List[float], List[float]]:
    """Points in ms as columns, with seconds."""
    return [when / 1000 for when, _ in points], [rate for _, rate in points]


def rate_at(points: List[List[float]], when: float) -> Optional[float]:
    """A point's rate is from the point before on."""
    return next((rate for end, rate in points if end >= when), None)


def median_rate(runs: List[Run]) -> Tuple[List[float], List[float]]:
    """Through time, where all rounds have a rate."""
    start = max(run['rate'][0][0] for run in runs)
    end = min(run['rate'][-1][0] for run in runs)
    steps = 200
    times = [start + (end - start) * step / steps for step in range(steps + 1)]
    points = []
    for when in times:
        rates = [rate_at(run['rate'], when) for run in runs]
        there = [rate for rate in rates if rate is not None]
        if there:
            points.append([when, median(there)])
    return seconds(points)


def marks(runs: Iterable[Run], name: str) -> List[float]:
    """When something was, in seconds."""
    found = (number(run, 'marks', name) for run in runs)
    return [when / 1000 for when in found if when is not None]


def mark_phases(axes: Any, runs: List[Run], colour: str) -> None:
    """Where the guest stood still, and where pages were missing."""
    above = ('data', 'axes fraction')
    axes.axvline(0, color=INK, linewidth=1)
    axes.annotate('switch-over ', (0, 1.02), xycoords=above, ha='right')
    if stopped := marks(runs, 'stopped'):
        axes.axvspan(median(stopped), 0, color=INK, alpha=0.15, linewidth=0)
    if ends := marks(runs, 'completed'):
        middle = median(ends)
        axes.axvspan(0, middle, color=colour, alpha=0.12, linewidth=0)
        axes.axvline(middle, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(' complete', (middle, 1.02), xycoords=above)


def rate_limits(data: Data) -> Tuple[float, float, float]:
    """The same for all modes: from, to, and the highest rate."""
    runs = [run for run in all_runs(data) if run.get('ok') and run.get('rate')]
    starts = marks(runs, 'start') or [seconds(run['rate'])[0][0]
                                      for run in runs]
    ends = marks(runs, 'completed') or [seconds(run['rate'])[0][-1]
                                        for run in runs]
    length = max(ends) - min(starts) or 1
    left, right = min(starts) - length * 0.2, max(ends) + length * 0.3
    top = max(max(seconds(run['rate'])[1]) for run in runs)
    return left, right, top * 1.05 or 1


class Waits(NamedTuple):
    """How long a mode's accesses waited, all rounds together."""
    # Limits of buckets in us, one more than there are counts.
    edges: List[float]
    counts: List[float]


def waits(data: Data, mode: str) -> Optional[Waits]:
    """By bucket, with those that are empty, for one migration."""
    there = [run['latency']['buckets'] for run in runs_of(data, mode)
             if dig(run, 'latency', 'buckets')]
    counts: Dict[float, float] = {}
    edges = set()
    for low, high, count in (bucket for run in there for bucket in run):
        counts[low] = counts.get(low, 0) + count / len(there)
        edges |= {low, high}
    if not sum(counts.values()):
        return None
    ordered = sorted(edges)
    return Waits([edge / 1000 for edge in ordered],
                 [counts.get(low, 0) for low in ordered[:-1]])


def begin_waits(axes: Any, data: Data, title: str,
                ylabel: str) -> Dict[str, Waits]:
    """Begin a plot of waits; returns those of the modes that have some."""
    axes.set_title(title)
    axes.set(xlabel=units(data)['us'], ylabel=ylabel)
    found = {mode: waits(data, mode) for mode in all_modes(data)}
    there = {mode: some for mode, some in found.items() if some}
    if not there:
        say_missing(axes)
    return there


def plot_histogram(axes: Any, data: Data) -> None:
    """Waits by how long they were."""
    found = begin_waits(axes, data, 'How many waited how long',
                        'waits a migration')
    if not found:
        return
    for mode, some in found.items():
        axes.stairs(some.counts, some.edges, linewidth=1.5,
                    **line_style(data, mode))
    axes.set_xscale('log')
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter('{x:,.0f}')


def plot_tail(axes: Any, data: Data) -> None:
    """The share of waits that were longer."""
    found = begin_waits(axes, data, 'How many waited longer',
                        '% of the waits')
    if not found:
        return
    for mode, some in found.items():
        total, passed, longer = sum(some.counts), 0.0, [100.0]
        for count in some.counts[:-1]:
            passed += count
            longer.append(100 * (total - passed) / total)
        axes.plot(some.edges[:-1], longer, linewidth=1.5,
                  **line_style(data, mode))
    axes.set(xscale='log', yscale='log')
    axes.xaxis.set_major_formatter('{x:,.0f}')
    axes.yaxis.set_major_formatter('{x:g}')


def plot_bars(axes: Any, data: Data, figure: Figure) -> None:
    """A figure's median by mode, and its rounds."""
    longest = 0.0
    for index, mode in enumerate(all_modes(data)):
        values = figure.rounds(data, mode)
        longest = max(longest, *values, 0)
        if values:
            axes.barh(index, median(values), height=0.62,
                      color=stand_in(index))
        if len(values) > 1:
            axes.plot(values, [index] * len(values), 'o', markersize=3.5,
                      markerfacecolor='none', markeredgecolor=INK,
                      markeredgewidth=0.8)
        label_bar(axes, index, max(values, default=0),
                  figure.text(median(values) if values else None))
    dress_bars(axes, data, figure.label(data), longest)


def plot_huge(axes: Any, data: Data) -> None:
    """Memory in huge pages, before and after."""
    before, after = (Figure(name, scaled(1024, f'huge_{name}_kb'), whole=True)
                     for name in ('before', 'after'))
    longest = 0.0
    for index, mode in enumerate(all_modes(data)):
        had, has = (figure.median(data, mode) for figure in (before, after))
        longest = max(longest, had or 0, has or 0)
        axes.barh(index, had or 0, height=0.62, facecolor='none',
                  edgecolor=INK, linewidth=0.9)
        axes.barh(index, has or 0, height=0.62, color=stand_in(index))
        label_bar(axes, index, max(had or 0, has or 0),
                  f'{after.text(has)} of {before.text(had)}')
    dress_bars(axes, data, 'huge pages after, of those before, MB', longest)


def label_bar(axes: Any, index: int, end: float, text: str) -> None:
    """A value, after the end of its bar."""
    axes.annotate(text, (end, index), xytext=(6, 0), va='center',
                  textcoords='offset points')


def dress_bars(axes: Any, data: Data, title: str, longest: float) -> None:
    """What all plots of bars have."""
    modes = all_modes(data)
    axes.set_title(title)
    if not modes:
        say_missing(axes)
        return
    axes.set_yticks(range(len(modes)), modes)
    axes.set_ylim(len(modes) - 0.5, -0.5)
    axes.grid(False, axis='y')
    axes.tick_params(axis='y', length=0)
    axes.locator_params(axis='x', nbins=5)
    axes.xaxis.set_major_formatter('{x:,.10g}')
    # Room for the values, which have as many letters in a short bar.
    axes.set_xlim(0, longest * 1.3 or 1)


class Plot(NamedTuple):
    """A plot of the page."""
    name: str
    # What it shows, for those who can't see it.
    alt: str
    draw: Callable[[Any], None]
    height: float


def alt_text(data: Data, figure: Figure) -> str:
    """A plot of bars in words."""
    return f'{figure.label(data)}: ' + ', '.join(
        f'{mode} {cell(data, figure, mode)}' for mode in all_modes(data))


def rate_plots(data: Data) -> List[Plot]:
    """One for each mode."""
    return [Plot(f'rate-{index}', f'Rate of the guest through time, {mode}: '
                 f'{cell(data, RATE[0], mode)} pages/{units(data)["s"]} from '
                 'the switch-over until all memory has arrived',
                 partial(plot_rate, data=data, mode=mode), 2.4)
            for index, mode in enumerate(all_modes(data))]


def latency_plots(data: Data) -> List[Plot]:
    """All modes in each."""
    quantiles = '; '.join(alt_text(data, figure) for figure in LATENCY)
    return [Plot('latency', f'Histogram of waits by mode; {quantiles}',
                 partial(plot_histogram, data=data), 2.8),
            Plot('latency-tail', 'Share of waits that were longer, by mode; '
                 f'{quantiles}', partial(plot_tail, data=data), 2.8)]


def bar_plots(data: Data) -> List[Plot]:
    """One for each figure."""
    height = 0.75 + 0.3 * len(all_modes(data))
    bars = {'downtime': DOWNTIME, 'last-page': LAST_PAGE,
            'latency-p99': LATENCY[1], 'calls': CALLS, 'switches': SWITCHES}
    return [Plot(name, alt_text(data, figure),
                 partial(plot_bars, data=data, figure=figure), height)
            for name, figure in bars.items()] + [
        Plot('huge', 'Huge pages after and before; ' + alt_text(data, HUGE),
             partial(plot_huge, data=data), height)]


def svg(plot: Plot) -> str:
    """A plot as part of a page."""
    # The screen does without.
    # pylint: disable=import-outside-toplevel
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, plot.height), layout='constrained')
        plot.draw(canvas.add_subplot())
        canvas.savefig(text, format='svg', metadata={'Date': None})
    return inline(text.getvalue(), plot)


Replace = Callable[['re.Match[str]'], str]


def inline(text: str, plot: Plot) -> str:
    """
    An SVG file as an element: names are its own in the page, fonts are the
    page's, and so are colours.
    """
    replacements: List[Tuple[str, Union[str, Replace]]] = [
            (r'^.*?(?=<svg )', ''),
            (r'<metadata>.*?</metadata>', ''),
            (r'<style.*?</style>', ''),
            (r' xmlns:xlink="[^"]*"', ''),
            (r'\bxlink:href=', 'href='),
            (r'\bid="', f'id="{plot.name}-'),
            (r'(href="|url\()#', rf'\g<1>#{plot.name}-'),
            (r'\bfont: ((?:\w+ )*)([\d.]+px) [^;"]*', font),
            (INK, 'var(--ink)'), (SOFT, 'var(--soft)'),
            (r'#0a0b(..)', lambda m: f'var(--mode-{int(m[1], 16)})'),
            (r'^<svg ', '<svg role="img" aria-label="'
             + escape(plot.alt).replace('\\', r'\\') + '" ')]
    for pattern, new in replacements:
        text = re.sub(pattern, new, text, flags=re.S)
    return text


def font(match: 're.Match[str]') -> str:
    """Size and weight, without a family."""
    weight = '; font-weight: bold' if re.search('bold|700', match[1]) else ''
    return f'font-size: {match[2]}{weight}'
