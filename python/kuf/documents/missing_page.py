# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a missing page costs: bench/demand-paging's record as documents.
"""

from typing import (
    Dict,
    List,
    Optional,
    Tuple,
)

from kuf.cli import counted
from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table


BACKINGS = {
    'anonymous': 'anonymous memory',
    'anonymous, THP': 'anonymous memory with huge pages',
    'shmem': 'shared memory',
    'shmem, THP': 'shared memory with huge pages',
}
MODES = {
    'none': 'nobody: untouched memory',
    'none, present': 'nobody: memory has pages',
    'userfaultfd': 'userfaultfd',
    'userfaultfd minor': 'userfaultfd, minor faults',
    'userfault': 'KVM userfault: untouched memory',
    'userfault, present': 'KVM userfault: memory has pages',
    'both': 'both',
    'both minor': 'both, minor faults',
}
# What postcopy does: with userfaultfd, and with KVM userfault.
OLD, NEW = 'userfaultfd', 'userfault, present'


# What is kept of what was measured

def cost(run: Data) -> float:
    """Instructions a page, in the first boot."""
    first = run['numbers'][0]
    return float(first['ns'] / first['pages'])


def switches(run: Data) -> float:
    """Context switches a page."""
    first = run['numbers'][0]
    return float((first['voluntary'] + first['involuntary'])
                 / first['pages'])


def spread(runs: List[Data]) -> Data:
    """By how much the boots differ, in percent."""
    found = sorted(((abs(a['ns'] - b['ns']) / a['ns'] * 100, ', '.join(
        (run['backing'], run['mode'], counted(run['vcpus'], 'vCPU'))))
        for run in runs for a, b in [run['numbers']]), reverse=True)
    return {'runs': len(found),
            'median_percent': round(found[len(found) // 2][0], 4),
            'worst': [{'percent': round(percent, 4), 'where': where}
                      for percent, where in found[:3]]}


def beside(base: Data, patched: Data) -> Data:
    """The same run on both kernels."""
    before, after = cost(base), cost(patched)
    return {**{name: base[name] for name in ('backing', 'mode', 'vcpus')},
            'base': round(before, 2), 'patched': round(after, 2),
            'difference': round(after - before, 2),
            'percent': round((after / before - 1) * 100, 4)}


def whole_page(run: Data) -> Data:
    """What a vCPU waits for on hugetlb."""
    first = run['numbers'][0]
    faults = first['exits'] or first['pages'] // 512
    return {'mode': run['mode'], 'granule': '4K' if first['exits'] else '2M',
            'faults': faults, 'per_fault': round(first['ns'] / faults, 2),
            'per_page': round(cost(run), 2)}


def digest(measured: Data) -> Data:
    """What is kept of bench/demand-paging's numbers."""
    plain = measured['plain']
    return {
        'megabytes': measured['megabytes'], 'vcpus': measured['vcpus'],
        'runs': [{**{name: run[name] for name in ('backing', 'mode', 'vcpus')},
                  'instructions': round(cost(run), 2),
                  'switches': round(switches(run), 4)}
                 for run in measured['table']],
        'spread': spread(measured['table']),
        'calls': {mode['mode']: {name: round(count / mode['pages'], 4)
                                 for name, count in mode['calls'].items()}
                  for mode in measured['calls']},
        'hugetlb': [whole_page(run) for run in measured['hugetlb']],
        'flag-off': {
            'runs': [beside(*both) for both in
                     zip(plain['base'], plain['patched'])],
            'spread': {name: spread(plain[name]) for name in plain}}}


# What documents say of it

def record() -> Data:
    """What was measured."""
    return newest('missing-page').data


def by_run(data: Data, name: str) -> Dict[Tuple[str, str, int], float]:
    """One of the numbers of all runs that have it."""
    return {(run['backing'], run['mode'], run['vcpus']): run[name]
            for run in data['runs'] if name in run}


def shares(mode: str) -> List[Tuple[float, str]]:
    """What a mode needs of userfaultfd's instructions, and where."""
    costs = by_run(record(), 'instructions')
    return sorted(
        (each / costs[backing, OLD, vcpus],
         f"{backing}, {counted(vcpus, 'vCPU')}")
        for (backing, name, vcpus), each in costs.items() if name == mode)


def share_range(mode: str) -> str:
    """The best and the worst."""
    (least, where_least), *_, (most, where_most) = shares(mode)
    return f'{least:.2f} ({where_least}) to {most:.2f} ({where_most})'


def ranges() -> str:
    """All that resolves, against userfaultfd."""
    said = {'userfault': 'KVM userfault on untouched memory',
            'userfault, present': 'KVM userfault on memory that has pages',
            'both': 'both'}
    return '\n'.join(f'* {text}: {share_range(mode)}'
                     for mode, text in said.items())


def headline() -> str:
    """The answer in short."""
    costs = by_run(record(), 'instructions')
    old, new = (costs['anonymous', mode, 1] for mode in (OLD, NEW))
    return (f"a vCPU's access to a missing page costs {new:,.0f} instructions "
            f'with KVM userfault and {old:,.0f} with userfaultfd')


def plot() -> Plot:
    """One vCPU, all memories."""
    costs = by_run(record(), 'instructions')
    versions = newest('missing-page').versions
    return Plot([Panel('instructions for a missing page, one vCPU', [
        Row(title, [costs[backing, OLD, 1], costs[backing, NEW, 1]])
        for backing, title in BACKINGS.items()])],
        ['userfaultfd', 'KVM userfault'], '',
        f'Emulated host, one processor; {versions.text()}; one run',
        form='{:,.0f}'.format)


def answer() -> str:
    """The answer, and the plot."""
    said = headline()
    return (f'**{said[0].upper()}{said[1:]}**, without the network: '
            f"{share_range(NEW)} of userfaultfd's.\n\n"
            f'![{alt(plot())}](results/missing-page.svg)')


def cost_table(backing: str) -> str:
    """Instructions a page in each mode, and what that is of userfaultfd's."""
    data = record()
    costs = by_run(data, 'instructions')
    rows = []
    for mode, title in MODES.items():
        if (backing, mode, data['vcpus'][0]) in costs:
            rows.append([title, *(
                f'{costs[backing, mode, n]:,.0f} '
                f'({costs[backing, mode, n] / costs[backing, OLD, n]:.2f})'
                for n in data['vcpus'])])
    return table(['who resolves', *(counted(n, 'vCPU')
                                    for n in data['vcpus'])], rows)


def cost_tables() -> str:
    """One for each kind of memory."""
    return '\n'.join(f'### {title.capitalize()}\n\n{cost_table(backing)}'
                     for backing, title in BACKINGS.items())


def switch_table() -> str:
    """Context switches a page, of anonymous memory."""
    data = record()
    found = by_run(data, 'switches')
    rows = [[title, *(f"{found['anonymous', mode, n]:.2f}"
                      for n in data['vcpus'])]
            for mode, title in MODES.items()
            if ('anonymous', mode, data['vcpus'][0]) in found]
    return table(['who resolves', *(counted(n, 'vCPU')
                                    for n in data['vcpus'])], rows)


def call_table() -> str:
    """System calls a page, by name, as far as they come with pages."""
    calls = record()['calls']
    names = sorted({name for counts in calls.values()
                    for name, count in counts.items() if count >= 0.01})
    return table(['who resolves', *(f'`{name}`' for name in names)],
                 [[MODES[mode], *(f'{counts.get(name, 0):.2f}'
                                  for name in names)]
                  for mode, counts in calls.items()])


def hugetlb_table() -> str:
    """What a vCPU waits for on hugetlb."""
    return table(['who resolves', 'granule', 'faults', 'instructions a fault',
                  'instructions a 4K page'],
                 [[MODES[run['mode']], run['granule'], f"{run['faults']:,}",
                   f"{run['per_fault']:,.0f}", f"{run['per_page']:,.0f}"]
                  for run in record()['hugetlb']])


def off_table() -> str:
    """The kernel with the series and without, no slot having the flag."""
    return table(
        ['memory; who resolves', 'without the series', 'with it, flag off',
         'difference'],
        [[f"{run['backing']}; {MODES[run['mode']]}; "
          f"{counted(run['vcpus'], 'vCPU')}",
          f"{run['base']:,.0f}", f"{run['patched']:,.0f}",
          f"{run['difference']:+,.0f} ({run['percent']:+.2f} %)"]
         for run in record()['flag-off']['runs']])


def spread_text(found: Data) -> str:
    """How well two boots agree."""
    worst = '; '.join(f"{one['percent']:.2f} % ({one['where']})"
                      for one in found['worst'])
    return (f"{found['runs']} runs in two boots; they differ by "
            f"{found['median_percent']:.3f} % in the median, and at most by "
            f'{worst}.')


def off_spread() -> str:
    """Of both kernels."""
    found = record()['flag-off']['spread']
    return (f"Patched kernel: {spread_text(found['patched'])}\n\n"
            f"Kernel without the series: {spread_text(found['base'])}")


def off_percent() -> Tuple[float, Optional[float]]:
    """The least and the most that the flag costs when it is off, in %."""
    found = [run['percent'] for run in record()['flag-off']['runs']]
    return min(found), max(found)


def measured_text() -> str:
    """What it was measured on."""
    found = newest('missing-page')
    return (f'Linux {found.versions.linux}, `demand_paging_test` of the '
            f"series' selftests, {found.data['megabytes']} MB in all. "
            f'Measured {found.versions.date}. {found.note}').strip()


BLOCKS: Blocks = {
    'missing-page-answer': answer,
    'missing-page-measured': measured_text,
    'missing-page-costs': cost_tables,
    'missing-page-ranges': ranges,
    'missing-page-switches': switch_table,
    'missing-page-calls': call_table,
    'missing-page-hugetlb': hugetlb_table,
    'missing-page-spread': lambda: spread_text(record()['spread']),
    'flag-off-table': off_table,
    'flag-off-spread': off_spread,
}
PLOTS = {'missing-page': plot}
