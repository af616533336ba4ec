# SPDX-License-Identifier: GPL-2.0-or-later
"""
A benchmark's numbers: all that it has measured, as JSON in a file.

Documents are made of what bench/results keeps of them.
"""

import argparse
import json
from pathlib import Path
from typing import Callable

from kuf.cli import Failure
from kuf.documents.records import Data
from kuf.paths import RESULTS


def add_json(parser: argparse.ArgumentParser, name: str) -> None:
    """Where they are."""
    parser.add_argument('--json', metavar='PATH', type=Path,
                        default=RESULTS / f'{name}.json',
                        help=f'the numbers [build/results/{name}.json]')


def add_only_report(parser: argparse.ArgumentParser) -> None:
    """Whether those are taken that are there."""
    parser.add_argument('--only-report', action='store_true',
                        help='measure nothing, keep the numbers that are '
                        'there')


def write(path: Path, data: Data) -> None:
    """Keep all that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')


def measured(args: argparse.Namespace, measure: Callable[[], Data]) -> Data:
    """What is measured now or, with --only-report, was before."""
    path: Path = args.json
    if not args.only_report:
        write(path, measure())
    if not path.exists():
        raise Failure(f'there is no {path}; measure first, without '
                      '--only-report')
    data: Data = json.loads(path.read_text(encoding='utf-8'))
    return data
