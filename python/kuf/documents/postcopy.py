# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the long comparison has shown: bench/postcopy's record as documents.
"""

from statistics import median
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
)

from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table
from kuf.modes import uses_kvm_userfault
from kuf.report.figures import (
    CALLS,
    DOWNTIME,
    HUGE_AFTER,
    LAST_PAGE,
    LATENCY,
    REQUESTS,
    SWITCHES,
    USERFAULTFD,
    WAIT,
    WAITED,
    Figure,
    number,
    plain,
    postcopy_rate,
    ratio,
    reference,
    rounds,
    time_lost,
)


# In a record they are numbers; what they are made of is not kept.
RATE = Figure('guest rate, pages/{s}', plain('guest_rate'), 1)
LOST = Figure('guest time lost, {s}', plain('guest_time_lost'), -1)
COST = Figure('instructions a page, downtime and postcopy',
              plain('instructions_per_page'), -1, whole=True)

P50, P99 = LATENCY[:2]
FIGURES = [DOWNTIME, LAST_PAGE, LOST, REQUESTS, WAITED, WAIT, P50, P99, RATE,
           CALLS, SWITCHES, HUGE_AFTER, USERFAULTFD]
INSTRUCTION_FIGURES = [WAITED, P50, P99, DOWNTIME, LAST_PAGE, LOST, COST,
                       REQUESTS, CALLS, SWITCHES]

NEW = {'kvm-userfault': 'KVM userfault',
       'kvm-userfault+preempt': 'KVM userfault, with preemption'}


class Share(NamedTuple):
    """KVM userfault's figure, of userfaultfd's."""
    value: float
    guest: str
    mode: str

    def text(self) -> str:
        """With where it was."""
        return f'{self.value:.2f} ({self.guest}, {self.mode})'


# What is kept of what was measured

KEPT = ('mode', 'round', 'ok', 'downtime_ms', 'postcopy_ms', 'pages_placed',
        'requests', 'vcpu_faults', 'syscalls_per_page', 'context_switches',
        'huge_after_kb', 'userfaultfd_calls')
LATENCIES = ('touches', 'waits', 'wait_p50_ns', 'p50_ns', 'p99_ns', 'max_ns')


def per_page(run: Data) -> Optional[float]:
    """
    Nanoseconds from the switch-over until all memory has arrived, a page that
    came after it.  Some come before the guest runs.
    """
    down, last = number(run, 'downtime_ms'), number(run, 'postcopy_ms')
    pages = number(run, 'pages_placed')
    if down is None or last is None or not pages:
        return None
    return (down + last) * 1e6 / pages


def thin_run(run: Data) -> Data:
    """A migration's figures, without what they are made of."""
    latency = run['latency'] or {}
    return {**{name: run[name] for name in KEPT},
            'latency': {name: latency.get(name) for name in LATENCIES},
            'guest_rate': postcopy_rate(run),
            'guest_time_lost': time_lost(run),
            'instructions_per_page': per_page(run)}


def thin(report: Data) -> Data:
    """A report of demo/run."""
    return {**{name: report[name] for name in ('schema', 'emulated', 'clock',
                                               'modes')},
            'runs': [thin_run(run) for run in report['runs']]}


def userfaultfd_calls(runs: List[Data]) -> Data:
    """Of both ways."""
    def calls(new: bool) -> int:
        return sum(run['userfaultfd_calls'] or 0 for run in runs
                   if uses_kvm_userfault(run['mode']) == new)
    return {'userfaultfd': calls(False), 'kvm-userfault': calls(True)}


def digest(sweeps: List[Data], apart: List[Data], instructions: List[Data],
           guest_linux: str) -> Data:
    """
    What is kept of demo/run's reports.

    A sweep has a title and guests; a guest has a name, a title, and its report.
    Those that are apart are not compared with all others.
    """
    def kept(guests: List[Data]) -> List[Data]:
        return [{**guest, 'report': thin(guest['report'])}
                for guest in guests]
    guests = [guest for sweep in sweeps for guest in sweep['guests']]
    runs = [run for guest in guests + apart + instructions
            for run in guest['report']['runs']]
    return {'migrations': len(runs),
            'failed': sum(not run['ok'] for run in runs),
            'checked_pages': sum(run['checked_pages'] for run in runs),
            'userfaultfd_calls': userfaultfd_calls(runs),
            'guest_linux': guest_linux,
            'sweeps': [{'title': sweep['title'],
                        'guests': kept(sweep['guests'])} for sweep in sweeps],
            'apart': kept(apart), 'instructions': kept(instructions)}


# What documents say of it

def record() -> Data:
    """What was measured."""
    return newest('postcopy').data


def wall_guests() -> Iterator[Data]:
    """All guests but those of the instruction clock."""
    for sweep in record()['sweeps']:
        yield from sweep['guests']


def title(figure: Figure) -> str:
    """What is compared has no unit."""
    return figure.title.partition(',')[0]


def all_shares(figure: Figure) -> List[Share]:
    """Of all guests, in both modes."""
    return [Share(share, guest['title'], mode)
            for guest in wall_guests() for mode in NEW
            if (share := ratio(guest['report'], figure, mode)) is not None]


def answer(figure: Figure) -> str:
    """What came out for a figure, in sentences."""
    found = all_shares(figure)
    less = sum(share.value < 1 for share in found)
    more = sum(share.value > 1 for share in found)
    name = title(figure)
    return (f'**{name[0].upper()}{name[1:]}: '
            f'{median(share.value for share in found):.2f} of userfaultfd\'s '
            f'in the median** of {len(found)} comparisons; less in {less}, '
            f'more in {more}: from {min(found).text()} to '
            f'{max(found).text()}.')


def rounds_of(report: Data) -> int:
    """Of how many there are medians."""
    return int(report.get('medians_of') or rounds(report))


def where() -> str:
    """What it was measured on."""
    found = newest('postcopy')
    several = sorted({rounds_of(guest['report']) for guest in wall_guests()})
    return (f'Emulated host, one processor; {found.versions.text()}; medians '
            f"of {' or '.join(map(str, several))} rounds")


def share_rows(figure: Figure) -> List[Row]:
    """A line for each guest."""
    return [Row(guest['title'], [ratio(guest['report'], figure, mode)
                                 for mode in NEW]) for guest in wall_guests()]


def share_plot(*figures: Figure) -> Plot:
    """Figures side by side."""
    return Plot([Panel(title(figure), share_rows(figure))
                 for figure in figures], list(NEW.values()),
                'share of what it is with userfaultfd and the same setting of '
                'postcopy-preempt', where())


PLOTS: Dict[str, Callable[[], Plot]] = {
    'duration': lambda: share_plot(LAST_PAGE),
    'latency': lambda: share_plot(WAITED, P99),
    'lost': lambda: share_plot(LOST),
    'work': lambda: share_plot(CALLS, SWITCHES),
    'huge': lambda: share_plot(HUGE_AFTER),
    'notice': lambda: share_plot(DOWNTIME, RATE),
}


def question(name: str, *figures: Figure) -> Callable[[], str]:
    """A block: answers, and the plot."""
    return lambda: ('\n\n'.join(answer(figure) for figure in figures)
                    + f'\n\n![{alt(PLOTS[name]())}](results/{name}.svg)')


def verdict() -> str:
    """Was memory right, and was there no userfaultfd?"""
    data = record()
    calls = data['userfaultfd_calls']
    said = 'No' if calls['kvm-userfault'] or data['failed'] else 'Yes'
    return (f"**{said}.** In {data['migrations'] - data['failed']} of "
            f"{data['migrations']} migrations the guest "
            'found all of its memory as it had written it, in '
            f"{data['checked_pages']:,} checks of pages after the switch-over. "
            "Over the destinations' whole lives, KVM userfault made "
            f"{calls['kvm-userfault']} userfaultfd calls, and "
            f"userfaultfd {calls['userfaultfd']}.")


def measured_text() -> str:
    """What it was measured on, in a sentence."""
    found = newest('postcopy')
    said = (f'QEMU {found.versions.qemu} with the fork\'s patches on Linux '
            f'{found.versions.linux} with the series; guests run Linux '
            f"{found.data['guest_linux']}. Measured {found.versions.date}.")
    return f'{said} {found.note}'.strip()


def cell(data: Any, figure: Figure, mode: str) -> str:
    """A figure, with what it is of userfaultfd's."""
    share: Optional[float] = ratio(data, figure, mode)
    return (figure.text(figure.median(data, mode))
            + (f' ({share:.2f})' if share is not None else ''))


def guest_table(data: Data, figures: List[Figure]) -> str:
    """Figures by mode; a record can be older than a figure."""
    modes = data['modes']
    figures = [figure for figure in figures
               if any(figure.rounds(data, mode) for mode in modes)]
    return table(
        [f'median of {rounds_of(data)}', *modes],
        [[figure.label(data), *(cell(data, figure, mode) for mode in modes)]
         for figure in figures])


def guest_tables(guests: List[Data], figures: List[Figure]) -> str:
    """One for each guest, under its title."""
    return '\n'.join(f"### {guest['title'][0].upper()}{guest['title'][1:]}\n\n"
                     + guest_table(guest['report'], figures)
                     for guest in guests)


def comparison() -> str:
    """All figures: where there is less of it, and where more."""
    rows = []
    for figure in FIGURES:
        if found := all_shares(figure):
            rows.append([title(figure),
                         f'{median(share.value for share in found):.2f}',
                         min(found).text(), max(found).text()])
    return table(['figure', 'median', 'least', 'most'], rows)


def sweep_tables() -> str:
    """All guests of the wall clock."""
    return '\n'.join(f"## {sweep['title']}\n\n"
                     + guest_tables(sweep['guests'], FIGURES)
                     for sweep in record()['sweeps'])


def apart_tables() -> str:
    """Those that are not compared with all others."""
    return guest_tables(record()['apart'], FIGURES)


def apart_answer() -> str:
    """What they lose, and how long they wait."""
    said = []
    for guest in record()['apart']:
        data = guest['report']
        for mode in NEW:
            old = reference(data, mode)
            assert old
            said.append([guest['title'], NEW[mode],
                         *(figure.text(figure.median(data, name))
                           for figure in (DOWNTIME, LOST)
                           for name in (mode, old))])
    return table(['guest', 'mode', 'downtime, ms', 'with userfaultfd',
                  'guest time lost, s', 'with userfaultfd'], said)


def instruction_tables() -> str:
    """Those whose clock counts instructions."""
    return guest_tables(record()['instructions'], INSTRUCTION_FIGURES)


BLOCKS: Blocks = {
    'postcopy-measured': measured_text,
    'postcopy-verdict': verdict,
    'postcopy-duration': question('duration', LAST_PAGE),
    'postcopy-latency': question('latency', WAITED, P99),
    'postcopy-lost': question('lost', LOST),
    'postcopy-work': question('work', CALLS, SWITCHES),
    'postcopy-huge': question('huge', HUGE_AFTER),
    'postcopy-notice': question('notice', DOWNTIME, RATE),
    'postcopy-comparison': comparison,
    'postcopy-tables': sweep_tables,
    'postcopy-apart': apart_answer,
    'postcopy-apart-tables': apart_tables,
    'postcopy-instructions': instruction_tables,
}
