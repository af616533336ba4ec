# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as a page that needs no network and no scripts."""

from html import escape
from typing import Iterable, List

from kuf.cli import counted
from kuf.report.definitions import DEFINITIONS
from kuf.report.figures import (
    FIGURES,
    RUN_FIGURES,
    SCHEMA,
    Data,
    Figure,
    Run,
    all_modes,
    all_runs,
    cell,
    check_schema,
    clock_text,
    dig,
    failures,
    guest_text,
    host_text,
    link_text,
    ratio,
    reference,
    runs_text,
    scaled,
    sentence,
    shown,
    units,
    verdict,
)
from kuf.report.plots import (
    Plot,
    bar_plots,
    dashes,
    latency_plots,
    mode_colours,
    rate_plots,
    svg,
)
from kuf.report.screen import failure_text


CSS = '''\
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c1e21; --soft: #c9ced6; --quiet: #5a616b;
  --tint: #f3f5f8; --good: #17603a; --bad: #a61b1b;
LIGHT
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #16181c; --ink: #e6e8eb; --soft: #454b55; --quiet: #a3abb6;
    --tint: #20242a; --good: #6fce97; --bad: #ff8a80;
DARK
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, dl { max-width: 46rem; }
.where, figcaption, caption, footer, .note { color: var(--quiet); }
.where { margin: 0 0 .25rem; max-width: none; }
.verdict {
  max-width: none; margin: 1.25rem 0; padding: .7rem 1rem;
  background: var(--tint); border-left: .35rem solid;
}
.verdict strong { letter-spacing: .03em; }
.good { border-color: var(--good); } .good strong { color: var(--good); }
.bad { border-color: var(--bad); background: var(--bad); color: var(--paper); }
.bad strong { font-size: 1.25em; }
td.failed { color: var(--bad); font-weight: bold; }
.table { overflow-x: auto; }
table {
  border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums;
}
caption {
  caption-side: bottom; text-align: left; font-size: .85rem;
  padding-top: .5rem;
}
th, td {
  padding: .3rem .8rem; border-bottom: 1px solid var(--soft);
  text-align: right; white-space: nowrap; vertical-align: baseline;
}
thead th { vertical-align: bottom; border-bottom: 2px solid var(--soft); }
th:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
tbody th { font-weight: normal; }
.best { font-weight: bold; background: var(--tint); }
.ratio {
  display: inline-block; min-width: 3.3rem; font-weight: normal;
  font-size: .85em; color: var(--quiet);
}
td.error { text-align: left; white-space: normal; }
.runs table { font-size: .8rem; }
.runs thead th { min-width: 4.2rem; white-space: normal; }
.runs th, .runs td { padding: .25rem .45rem; }
.key { list-style: none; display: flex; flex-wrap: wrap; padding: 0;
  margin: .5rem 0; gap: .2rem 1.5rem; font-size: .92rem; }
.key svg { width: 2rem; height: .7rem; margin-right: .4rem; }
.plots { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.plots svg { display: block; width: 100%; height: auto;
  stroke-linejoin: round; }
figure { margin: 0; break-inside: avoid; }
figure text { fill: var(--ink); }
figcaption { font-size: .85rem; margin-top: .5rem; }
dt { font-weight: bold; } dd { margin: 0 0 .6rem; }
footer { margin-top: 3rem; font-size: .85rem;
  border-top: 1px solid var(--soft); }
@media screen and (max-width: 40rem) {
  th, td { padding: .3rem .35rem; }
  table { font-size: .8rem; }
  thead th, tbody th { white-space: normal; }
  tbody th { min-width: 6.5rem; }
  .ratio { display: block; }
}
@page { margin: 12mm; }
@media print {
  body { padding: 0; max-width: none; font-size: 10pt;
    print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .table { overflow: visible; break-inside: avoid; }
  .plots { grid-template-columns: 1fr 1fr; }
  .runs table { font-size: 5.2pt; }
  .runs thead th { min-width: 0; }
  .runs th, .runs td { padding: .1rem .18rem; }
  h2 { break-after: avoid; margin-top: 1.2rem; }
  dl { max-width: none; font-size: 9pt; } dd { margin: 0 0 .2rem; }
  footer { margin-top: 1rem; }
}
'''

EMULATED = (
    'Emulated host',
    'TCG emulates the host. Where that has one processor, both QEMUs, the '
    'guest and the kernel take turns. Times, rates and latencies can be '
    'compared with each other here, but not with those of any real machine. '
    'Counts (faults, system calls, context switches, pages) are real.')
INSTRUCTIONS = (
    'kinsn, Minsn, Ginsn',
    'A thousand, a million and a billion instructions. The clock of this host '
    'advances by one nanosecond for each instruction, so that what is called a '
    'time here is a count of instructions.')


def element(name: str, inner: str, **attributes: str) -> str:
    """An element; class_ is class, since that is a word of Python's."""
    text = ''.join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
                   for key, value in attributes.items())
    return f'<{name}{text}>{inner}</{name}>'


def table(caption: str, head: List[str], rows: List[str], kind: str) -> str:
    """A table that can be moved sideways, by keys as well."""
    cells = ''.join(element('th', name, scope='col') for name in head)
    inner = (element('caption', escape(caption))
             + element('thead', element('tr', cells))
             + element('tbody', '\n'.join(rows)))
    return element('div', element('table', inner), class_=f'table {kind}',
                   tabindex='0', role='region', aria_label=caption)


def row(title: str, cells: Iterable[str]) -> str:
    """A line of a table."""
    return element('tr', element('th', escape(title), scope='row')
                   + ''.join(cells))


def ratio_text(data: Data, figure: Figure, mode: str) -> str:
    """What a figure is of userfaultfd's."""
    if reference(data, mode) is None:
        return ''
    share = ratio(data, figure, mode) if figure.better else None
    # Without one as well, so that the numbers are below each other.
    return element('span', '' if share is None else f'×{share:.2f}',
                   class_='ratio')


def best_modes(data: Data, figure: Figure) -> List[str]:
    """Those with the best value, if there is something to choose."""
    values = {mode: figure.median(data, mode) for mode in all_modes(data)}
    there = {mode: value * figure.better for mode, value in values.items()
             if value is not None}
    if not figure.better or len(set(there.values())) < 2:
        return []
    return [mode for mode, value in there.items()
            if value == max(there.values())]


def mode_heads(data: Data) -> List[str]:
    """Names of modes, which a narrow window may break."""
    return [escape(mode).replace('+', '+<wbr/>') for mode in all_modes(data)]


def summary_table(data: Data) -> str:
    """The same figures as on the screen."""
    rows = []
    for figure in FIGURES:
        best = best_modes(data, figure)
        cells = []
        for mode in all_modes(data):
            text = cell(data, figure, mode)
            kind = ('failed' if text == 'FAILED'
                    else 'best' if mode in best else 'value')
            cells.append(element('td', text + ratio_text(data, figure, mode),
                                 class_=kind))
        rows.append(row(figure.label(data), cells))
    caption = (f'Medians of {runs_text(data)}. The best value of a row is '
               'bold. × is the ratio to userfaultfd, with the same setting '
               'of postcopy-preempt if there is one.')
    return table(caption, ['figure', *mode_heads(data)], rows,
                 'medians')


def run_row(run: Run) -> str:
    """A migration."""
    title = f"{run.get('mode')}, {run.get('round')}"
    if not run.get('ok'):
        return row(title, [
            element('td', 'failed', class_='failed'),
            element('td', escape(failure_text(run)), class_='error',
                    colspan=str(len(RUN_FIGURES)))])
    return row(title, [element('td', 'ok')] + [
        element('td', figure.text(figure.find(run)))
        for figure in RUN_FIGURES])


def runs_table(data: Data) -> str:
    """All migrations."""
    return table('All migrations, in the order in which they were done.',
                 ['mode, round', 'result',
                  *(escape(figure.label(data)) for figure in RUN_FIGURES)],
                 [run_row(run) for run in all_runs(data)], 'runs')


def calls_table(data: Data) -> str:
    """System calls by role and name."""
    kinds = sorted({(role, name) for run in all_runs(data)
                    for role, calls in (run.get('syscalls') or {}).items()
                    for name in calls},
                   key=lambda kind: (kind[0] != 'placing', kind))
    if not kinds:
        return element('p', 'System calls were not counted.')
    rows = []
    for role, name in kinds:
        figure = Figure(f'{role}: {name}', scaled(1, 'syscalls', role, name),
                        whole=True)
        rows.append(row(figure.title, (
            element('td', cell(data, figure, mode))
            for mode in all_modes(data))))
    return table(f'Medians of {runs_text(data)}, during postcopy. Placing: the '
                 'threads that receive pages, place them and serve faults.',
                 ['role: call', *mode_heads(data)], rows, 'calls')


def key(data: Data) -> str:
    """Which mode is which line."""
    items = []
    for index, mode in enumerate(all_modes(data)):
        dash = ' '.join(str(length * 1.5) for length in dashes(mode))
        stroke = (f'<line x1="0" y1="6" x2="32" y2="6" stroke-width="3" '
                  f'stroke="var(--mode-{index})" stroke-dasharray="{dash}"/>')
        items.append(element('li', element(
            'svg', stroke, viewBox='0 0 32 12', aria_hidden='true')
            + escape(mode)))
    return element('ul', ''.join(items), class_='key')


def plots(data: Data, some: List[Plot], caption: str) -> str:
    """Plots of one kind, which all say where they come from."""
    where = sentence(f'{host_text(data)}; {runs_text(data)}')
    try:
        figures = ''.join(element('figure', svg(plot), id=plot.name)
                          for plot in some)
    except ImportError:
        return element('p', 'There are no plots, because python3-matplotlib '
                       'is not there; install it, and run demo/report.py '
                       'again.', class_='note')
    return element('figure', element('div', figures, class_='plots')
                   + element('figcaption', escape(f'{caption} {where}')))


def verdict_part(data: Data) -> str:
    """The verdict, and each failure."""
    result = verdict(data)
    items = ''.join(element('li', escape(failure_text(run)))
                    for run in failures(data))
    inner = element('strong', result.word) + f': {escape(result.text)}.'
    return element('div', inner + (element('ul', items) if items else ''),
                   class_=f"verdict {'good' if result.good else 'bad'}")


def where_part(data: Data) -> str:
    """What, where and how."""
    guest = data.get('guest') or {}
    lines = [
        sentence(f"{guest_text(data)}; each thread works on "
                 f"{shown(guest.get('own_mb'))} MB, all of them on "
                 f"{shown(guest.get('shared_mb'))} MB more; Linux "
                 f"{shown(guest.get('kernel'))}; "
                 f"{', '.join(guest.get('devices') or ['no devices'])}"),
        sentence(f"{host_text(data)}, {shown(dig(data, 'host', 'cpu'))}, "
                 f"{shown(dig(data, 'host', 'memory_mb'))} MB"),
        f"Link: {link_text(data)}. "
        f"{sentence(counted(len(all_runs(data)), 'migration'))[:-1]}, "
        f"{runs_text(data)}; {shown(data.get('date'))}.",
        clock_text(data)]
    return '\n'.join(element('p', escape(text), class_='where')
                     for text in lines if text)


def how_part(data: Data) -> str:
    """Definitions."""
    terms = [(one.name[0].upper() + one.name[1:], one.what)
             for one in DEFINITIONS]
    if data.get('emulated'):
        terms.append(EMULATED)
    if data.get('clock') == 'instructions':
        terms.append(INSTRUCTIONS)
    return element('dl', '\n'.join(
        element('dt', escape(term))
        + element('dd', escape(text.format(**units(data))))
        for term, text in terms))


def style_sheet(data: Data) -> str:
    """With the colours of the modes."""
    light, dark = (
        '\n'.join(f'    --mode-{index}: {pair[night]};'
                  for index, pair in enumerate(mode_colours(data)))
        for night in (0, 1))
    return CSS.replace('LIGHT', light).replace('DARK', dark)


def section(title: str, *parts: str) -> str:
    """A part of the page."""
    return element('section', '\n'.join((element('h2', title), *parts)))


def html(data: Data) -> str:
    """One page that has all it needs."""
    check_schema(data)
    title = 'Postcopy on KVM userfault and on userfaultfd'
    body = '\n'.join((
        element('h1', title), where_part(data), verdict_part(data),
        section('Summary', summary_table(data)),
        section('The rate of the guest', plots(
            data, rate_plots(data), 'Pages a second that the guest checks. '
            'Thin: rounds; bold: their median. Grey: the guest is stopped; '
            'tinted: pages are missing.')),
        section('Latency of accesses', key(data), plots(
            data, latency_plots(data), 'Accesses of the guest that took 32 '
            f"{units(data)['us']} or more, during postcopy; both axes of the "
            'second plot are logarithmic. Quantiles '
            'are of the slowest, as many as pages were requested.')),
        section('Costs', plots(
            data, bar_plots(data), 'Bars: medians; circles: rounds. Frames: '
            'huge pages before the migration.')),
        section('Each migration', runs_table(data)),
        section('System calls', calls_table(data)),
        section('How to read this', how_part(data)),
        element('footer', element('p', f'report.json, schema {SCHEMA}; '
                                  'written by demo/report.py'))))
    head = ('<meta charset="utf-8"/><meta name="viewport" '
            'content="width=device-width, initial-scale=1"/>'
            + element('title', title) + element('style', style_sheet(data)))
    return ('<!DOCTYPE html>\n<html lang="en">' + element('head', head) + '\n'
            + element('body', element('main', body)) + '</html>\n')
