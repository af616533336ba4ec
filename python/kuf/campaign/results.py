# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is kept of campaigns.

A campaign writes its runs to a file of its own in --output.  Of these files a
digest is made for each seed, which joins those of other seeds that the record
in bench/results has; docs/reliability.md is made of their sum.
"""

import json
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    List,
)

from kuf.cli import Failure
from kuf.counts import Counts, add, add_all


Record = Dict[str, Any]

# How a run ends well, by what its outcome begins with.
OUTCOMES = {
    'over': 'the migration was not interrupted for good',
    'recovered': 'it was interrupted, and went on over a new link',
    'the source runs on': 'it was given up before the guest had moved',
}


def load(folder: Path) -> List[Record]:
    """All runs of which there are files; the last one counts."""
    runs: Dict[Any, Record] = {}
    for path in sorted(folder.glob('*.json'),
                       key=lambda path: path.stat().st_mtime):
        for run in json.loads(path.read_text(encoding='utf-8')):
            runs[run['seed'], run['number']] = run
    if not runs:
        raise Failure(f'no run has left anything in {folder}; run '
                      'host/campaign')
    return [runs[key] for key in sorted(runs)]


def _count(counts: Counts, names: Iterable[str], failed: bool) -> None:
    for name in set(names):
        add(counts, name, 1, failed)


def digest(runs: List[Record]) -> Record:
    """What is kept of some runs."""
    outcomes: Dict[str, int] = {}
    happened: Counts = {}
    others: Counts = {}
    for run in runs:
        failed = run['outcome'] is None
        _count(happened, run['happened'], failed)
        _count(others, run['with'], failed)
        for name in OUTCOMES:
            if (run['outcome'] or '').startswith(name):
                outcomes[name] = outcomes.get(name, 0) + 1
    return {'runs': len(runs), 'outcomes': outcomes, 'happened': happened,
            'with': others,
            'failed': [{key: run[key] for key in ('seed', 'number', 'plan')}
                       for run in runs if run['outcome'] is None]}


def by_seed(runs: List[Record]) -> Dict[str, Record]:
    """A digest for each seed, by its number in decimal."""
    seeds: Dict[str, List[Record]] = {}
    for run in runs:
        seeds.setdefault(str(run['seed']), []).append(run)
    return {seed: digest(several) for seed, several in seeds.items()}


def total(digests: Iterable[Record]) -> Record:
    """One of all runs in several."""
    result = digest([])
    for one in digests:
        result['runs'] += one['runs']
        result['failed'] += one['failed']
        for name, number in one['outcomes'].items():
            result['outcomes'][name] = (result['outcomes'].get(name, 0)
                                        + number)
        for key in ('happened', 'with'):
            add_all(result[key], one[key])
    return result
