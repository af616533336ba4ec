# SPDX-License-Identifier: GPL-2.0-or-later
"""
What came of campaigns, as a document.
"""

from typing import List, Optional

from kuf.build.mistakes import MISTAKES
from kuf.campaign.kinds import KINDS
from kuf.campaign.results import OUTCOMES, total
from kuf.cli import counted
from kuf.counts import Counts
from kuf.documents.blocks import Blocks
from kuf.documents.records import Data, newest
from kuf.markdown import table, words
from kuf.virt import results


def record() -> Data:
    """The digest of all runs, see kuf.campaign.results."""
    return total(newest('campaign').data.values())


def answer() -> str:
    """How many runs, and how many failed."""
    data = record()
    failed = data['failed']
    text = (f"**{counted(data['runs'], 'run')}, "
            f"{'none' if not failed else len(failed)} failed.** "
            f"{newest('campaign').versions.text()}.")
    for run in failed:
        text += f"\n\n* {run['seed']}/{run['number']}: {run['plan']}"
    return text


def _rows(counts: Counts) -> List[List[str]]:
    return [[name, *(str(number) for number in numbers)]
            for name, numbers in sorted(counts.items())]


def outcomes() -> str:
    """How runs ended."""
    data = record()
    return table(['outcome', 'runs'],
                 [[f'{name}: {what}', str(data['outcomes'].get(name, 0))]
                  for name, what in OUTCOMES.items()])


def faults() -> str:
    """How often each thing happened."""
    return table(['what happened', 'runs', 'failed'],
                 _rows(record()['happened']))


def guests() -> str:
    """What was migrated, and where."""
    return table(['of which with', 'runs', 'failed'], _rows(record()['with']))


def kinds() -> str:
    """What each fault is."""
    return words(['fault', 'what'], [[*kind] for kind in KINDS.items()])


def mistakes() -> str:
    """What a campaign has noticed, see kuf.campaign.mistakes."""
    found = newest('mistakes').data
    return words(['mistake', 'noticed in run', 'by'], [
        [mistake.what, str(found[name]['runs']), found[name]['why']]
        if found[name]['noticed'] else
        [mistake.what, f"not in {found[name]['runs']}", '']
        for name, mistake in MISTAKES.items() if name in found])


def libvirt() -> str:
    """How often each case has run with each libvirt, see kuf.virt.results."""
    runs = results.total(newest('libvirt').data.values())
    places = sorted(runs)
    names = sorted({name for there in runs.values() for name in there})
    return table(['case', *places],
                 [[name, *(_passed(runs[where].get(name)) for where in places)]
                  for name in names])


def _passed(numbers: Optional[List[int]]) -> str:
    """How many were as they should be."""
    return f'{numbers[0] - numbers[1]} of {numbers[0]}' if numbers else ''


BLOCKS: Blocks = {
    'campaign-answer': answer,
    'campaign-outcomes': outcomes,
    'campaign-faults': faults,
    'campaign-guests': guests,
    'campaign-kinds': kinds,
    'campaign-mistakes': mistakes,
    'libvirt-runs': libvirt,
}
