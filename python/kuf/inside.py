# SPDX-License-Identifier: GPL-2.0-or-later
"""
Programs with a part that runs in an emulated host: there they start themselves
again, with --inside.
"""

import argparse
from pathlib import Path
from typing import List


_OPTION = '--inside'


def add_option(parser: argparse.ArgumentParser) -> None:
    """Which of the two parts this is, as args.inside."""
    parser.add_argument(_OPTION, action='store_true', help=argparse.SUPPRESS)


def command(launcher: Path, *args: str) -> List[str]:
    """What is run in the host."""
    return [str(launcher), _OPTION, *args]
