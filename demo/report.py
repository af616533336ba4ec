#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Show what demo/run has measured: one screen of text, and a page.

The page needs no network and no scripts.  docs/demo-report.md describes the
JSON that both are made of.  The exit status says whether there is a report,
not whether the migrations went well; that is in the report.
"""

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from figures import ReportError
from screen import summary
from page import html


def load(path: Path) -> Any:
    """What demo/run has written."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as exc:
        raise ReportError(f'{path} is not JSON ({exc}); demo/run writes it '
                          'anew') from exc


def main() -> int:
    """Print the screen, and write the page if wanted."""
    parser = argparse.ArgumentParser(
        prog='demo/report.py', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('json', type=Path, help="demo/run's report.json")
    parser.add_argument('--html', type=Path, metavar='PATH',
                        help='write the page as well')
    args = parser.parse_args()
    try:
        data = load(args.json)
        if args.html:
            args.html.write_text(html(data), encoding='utf-8')
        print(summary(data))
    except (ReportError, OSError) as exc:
        print(f'demo/report.py: error: {exc}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
