# SPDX-License-Identifier: GPL-2.0-or-later
"""
What happened, and its report.
"""

import json
from pathlib import Path
import sys
from typing import Dict

from kuf import tap
from kuf.build import stamp
from kuf.paths import RESULTS
from kuf.selftests.cases import Case
from kuf.selftests.ended import Ended
from kuf.selftests.target import Target


class Tap:
    """The report: a line for each test, and a remark below it."""

    def __init__(self, count: int):
        self.number = 0
        self.failed = 0
        tap.plan(count)

    def line(self, good: bool, case: Case, ended: Ended, remark: str) -> None:
        """One test; what it said is for the reader if it was not good."""
        self.number += 1
        self.failed += not good
        skip = good and ended.result == 'skip'
        tap.result(self.number, good, f"{case}{' # SKIP' if skip else ''}")
        tap.comment(remark)
        if not good:
            print(f'{case}: {remark}\n{ended.output}', file=sys.stderr,
                  flush=True)


def record_of(target: Target, what: str) -> Path:
    """Where it is written what happened."""
    smp = f'-smp{target.smp}' if target.smp != 1 else ''
    emulator = f'-{target.emulator}' if target.emulator != 'tcg' else ''
    name = f'{what}-{target.kernel}{emulator}-{target.mode}{smp}.json'
    return RESULTS / 'selftests' / name


def write_record(path: Path, results: Dict[Case, Ended]) -> None:
    """Write what happened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp.write(path, json.dumps([{**case._asdict(), **ended._asdict()}
                                  for case, ended in results.items()],
                                 indent=1))


def read_record(path: Path) -> Dict[Case, Ended]:
    """What happened, if it is known."""
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding='utf-8'))
    return {Case(**{key: result[key] for key in Case._fields}):
            Ended(**{key: result[key] for key in Ended._fields})
            for result in record}
