# SPDX-License-Identifier: GPL-2.0-or-later
"""
What memory costs that has arrived: bench/present-memory's record as documents.
"""

from typing import Any

from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table


# As the test names them, and as documents do.
CASES = {
    'without the flag': 'no KVM_MEM_USERFAULT',
    'none missing': 'the flag, no bit set',
    'some missing': 'one page in 1000 missing',
    'all missing': 'all missing: an exit for each',
}
FIRST = 'TDP MMU'


def digest(measured: Data) -> Data:
    """What is kept of bench/present-memory's numbers."""
    return {name: measured[name] for name in ('megabytes', 'mappings')}


def record() -> Data:
    """What was measured."""
    return newest('present-memory').data


def plot() -> Plot:
    """The TDP MMU, which is what hosts have."""
    mapping = record()['mappings'][FIRST]
    return Plot([Panel(f'instructions a page that is read, {FIRST}', [
        Row(title, [mapping[case]['cost']]) for case, title in CASES.items()])],
        [FIRST], '', 'Emulated host, one processor; '
        f"{newest('present-memory').versions.text()}; one run",
        form='{:,.1f}'.format, log=True)


def answer() -> str:
    """The answer, and the plot."""
    mapping = record()['mappings'][FIRST]

    def cost(case: str) -> float:
        found: float = mapping[case]['cost']
        return found
    return (f"**{cost('none missing') - cost('without the flag'):.1f} "
            'instructions a page more**, where none of its neighbours is '
            f"missing: {cost('none missing'):.1f} instead of "
            f"{cost('without the flag'):.1f}. With one page in 1000 missing "
            f"it is {cost('some missing'):.1f}, and the guest has "
            f"{mapping['some missing']['huge']} of "
            f"{mapping['without the flag']['huge']} huge mappings when it has "
            'read everything.\n\n'
            f'![{alt(plot())}](results/present-memory.svg)')


def cost_table() -> str:
    """All ways in which KVM maps memory."""
    mappings = record()['mappings']
    return table(['', *mappings], [
        [title, *(f"{cases[case]['cost']:,.1f}" for cases in
                  mappings.values())] for case, title in CASES.items()])


def mapped_table() -> str:
    """What is mapped in the end."""
    mapping: Any = record()['mappings'][FIRST]
    return table(['', 'exits', '4K', '2M'], [
        [title, *(f'{mapping[case][name]:,}'
                  for name in ('exits', 'small', 'huge'))]
        for case, title in CASES.items()])


def measured_text() -> str:
    """What it was measured on."""
    found = newest('present-memory')
    return (f'Linux {found.versions.linux}, `userfault_perf_test` of the '
            f"series' selftests, {found.data['megabytes']} MB. Measured "
            f'{found.versions.date}.')


BLOCKS: Blocks = {
    'present-memory-answer': answer,
    'present-memory-measured': measured_text,
    'present-memory-costs': cost_table,
    'present-memory-mapped': mapped_table,
}
PLOTS = {'present-memory': plot}
