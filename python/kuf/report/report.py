# SPDX-License-Identifier: GPL-2.0-or-later
"""
Show what demo/run has measured: one screen of text, and a page.

The page needs no network and no scripts.  docs/demo-report.md describes the
JSON that both are made of.  The exit status says whether there is a report,
not whether the migrations went well; that is in the report.
"""

import json
from pathlib import Path
from typing import Any

from kuf import cli
from kuf.cli import Failure
from kuf.report.page import html
from kuf.report.screen import summary


PROG = 'demo/report.py'


def load(path: Path) -> Any:
    """What demo/run has written."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as exc:
        raise Failure(f'{path} is not JSON ({exc}); demo/run writes it '
                      'anew') from exc


def work() -> int:
    """Print the screen, and write the page if wanted."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('json', type=Path, help="demo/run's report.json")
    parser.add_argument('--html', type=Path, metavar='PATH',
                        help='write the page as well')
    args = parser.parse_args()
    data = load(args.json)
    if args.html:
        args.html.write_text(html(data), encoding='utf-8')
    print(summary(data))
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
