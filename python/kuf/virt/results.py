# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is kept of migrations by libvirt.

Who runs cases in a host writes a file of how often each has run and failed
there.  These files join those that the record in bench/results has, and
docs/reliability.md is made of their sum.
"""

import json
from pathlib import Path
from typing import Dict, Iterable

from kuf.build import stamp
from kuf.cli import Failure
from kuf.counts import Counts, add, add_all


# Of each place, its cases.
Runs = Dict[str, Counts]


def count(runs: Runs, where: str, case: str, failed: bool) -> None:
    """A case has run there."""
    add(runs.setdefault(where, {}), case, 1, failed)


def keep(path: Path, runs: Runs) -> None:
    """What has run so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp.write(path, json.dumps(runs, indent=1))


def load(folder: Path) -> Dict[str, Runs]:
    """What files there are, by their names."""
    found = {path.stem: json.loads(path.read_text(encoding='utf-8'))
             for path in sorted(folder.glob('*.json'))}
    if not found:
        raise Failure(f'no case has left anything in {folder}; run '
                      'host/libvirt')
    return found


def total(files: Iterable[Runs]) -> Runs:
    """All of them together."""
    result: Runs = {}
    for runs in files:
        for where, cases in runs.items():
            add_all(result.setdefault(where, {}), cases)
    return result
