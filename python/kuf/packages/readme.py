# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the README tells users to run.
"""

import re
import textwrap
from typing import List

from kuf.cli import Failure
from kuf.paths import TOP


def _section(heading: str) -> str:
    text = (TOP / 'README.md').read_text(encoding='utf-8')
    found = re.search(rf'^## {heading}\n(.*?)(?=^#)', text, re.M | re.S)
    if not found:
        raise Failure(f"README.md has no section '{heading}'")
    return found[1]


def commands(heading: str) -> List[str]:
    """The blocks of shell commands in a section."""
    return [textwrap.dedent(block) for block in
            re.findall(r'(?:^    .*\n)+', _section(heading), re.M)]


def by_root(command: str) -> str:
    """That one by whoever needs no sudo."""
    return command.replace('sudo ', '').strip()


def reload() -> str:
    """How the KVM of the package is loaded, on AMD's processors, by root."""
    return by_root(commands('Install it')[1])


def purge() -> str:
    """How the packages are removed."""
    found = re.search('`(sudo apt purge .*)`', _section('Install it'))
    if not found:
        raise Failure('README.md does not say how packages are removed')
    return found[1]
