# SPDX-License-Identifier: GPL-2.0-or-later
"""
Faults of several vCPUs: bench/scaling's record as documents.
"""

from statistics import median
from typing import List

from kuf.documents.blocks import Blocks
from kuf.documents.charts import (
    Panel,
    Plot,
    Row,
    alt,
)
from kuf.documents.records import Data, newest
from kuf.markdown import table


KEPT = ('processors', 'megabytes', 'rates', 'waits', 'migrations')
USERFAULT, EACH, ONE = ('KVM userfault', 'a userfaultfd for each vCPU',
                        'one userfaultfd')


def digest(measured: Data) -> Data:
    """What is kept of bench/scaling's numbers."""
    return {name: measured[name] for name in KEPT}


def record() -> Data:
    """What was measured."""
    return newest('scaling').data


def rate(vcpus: str, resolver: str) -> float:
    """Faults a second of all vCPUs."""
    rounds: List[float] = record()['rates'][vcpus][resolver]
    return median(rounds)


def factor(vcpus: str, resolver: str) -> float:
    """How many times those of one vCPU."""
    return rate(vcpus, resolver) / rate('1', resolver)


def advantage() -> float:
    """KVM userfault's rate of two vCPUs, of what QEMU has otherwise."""
    return rate('2', USERFAULT) / rate('2', ONE)


def plot() -> Plot:
    """All of them."""
    return Plot([Panel('faults a second', [
        Row(vcpus + (' vCPU' if vcpus == '1' else ' vCPUs'),
            [rate(vcpus, resolver) for resolver in (USERFAULT, EACH, ONE)])
        for vcpus in record()['rates']])],
        [USERFAULT, EACH, ONE], '',
        'Emulated host, a processor for each vCPU; '
        f"{newest('scaling').versions.text()}; medians of "
        f"{len(record()['rates']['1'][USERFAULT])} runs",
        form='{:,.0f}'.format)


def answer() -> str:
    """The answer, and the plot."""
    return (f"**Two vCPUs get {factor('2', USERFAULT):.2f} times as many "
            'faults resolved as one with KVM userfault**, '
            f"{factor('2', EACH):.2f} times with a userfaultfd and a thread "
            f"for each of them, and {factor('2', ONE):.2f} times with one for "
            'both, which is what QEMU has. At two vCPUs KVM userfault '
            f'resolves {advantage():.1f} times as many as that.'
            f'\n\n![{alt(plot())}](results/scaling.svg)')


def rate_table() -> str:
    """All that was measured."""
    rates = record()['rates']
    return table(['vCPUs', USERFAULT, EACH, ONE], [
        [vcpus, *(f'{rate(vcpus, resolver):,.0f} '
                  f'({factor(vcpus, resolver):.2f})'
                  for resolver in (USERFAULT, EACH, ONE))]
        for vcpus in rates])


def migrations_table() -> str:
    """Pages that were asked for in migrations, by modes."""
    found = record()['migrations']
    modes = list(found['1'])
    return table(['vCPUs', *modes], [
        [vcpus, *(f'{median(rates[mode]):,.0f} '
                  f"({median(rates[mode]) / median(found['1'][mode]):.2f})"
                  for mode in modes)]
        for vcpus, rates in found.items()])


# By flags of the kernel's trace event contention_begin.
LOCKS = {'1': 'spinlock', '2': 'semaphore, to read', '3': 'rwlock, to read',
         '4': 'semaphore, to write', '5': 'rwlock, to write', '32': 'mutex',
         '33': 'mutex, spinning'}


def waits_table() -> str:
    """Waits for locks for each 1,000 faults, by number of vCPUs."""
    waits = record()['waits']
    pages = record()['megabytes'] * 256

    def waited(vcpus: str, resolver: str, flags: str) -> str:
        number = waits[vcpus][resolver].get(flags, 0)
        return f'{1000 * number / (pages * int(vcpus)):.1f}'

    several = [vcpus for vcpus in waits if vcpus != '1']
    flags = sorted({flag for vcpus in several
                    for counts in waits[vcpus].values() for flag in counts},
                   key=int)
    return table(['vCPUs, and lock', USERFAULT, EACH, ONE], [
        [f'{vcpus}, {LOCKS.get(flag, flag)}',
         *(waited(vcpus, resolver, flag)
           for resolver in (USERFAULT, EACH, ONE))]
        for vcpus in several for flag in flags])


def measured_text() -> str:
    """What it was measured on."""
    found = newest('scaling')
    return (f'Linux {found.versions.linux}, `demand_paging_test` of the '
            f"series' selftests, {found.data['megabytes']} MB for each vCPU; "
            f"the machine that emulates the host has "
            f"{found.data['processors']} processors. Measured "
            f'{found.versions.date}.')


BLOCKS: Blocks = {
    'scaling-answer': answer,
    'scaling-measured': measured_text,
    'scaling-rates': rate_table,
    'scaling-waits': waits_table,
    'scaling-migrations': migrations_table,
}
PLOTS = {'scaling': plot}
