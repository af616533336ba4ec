# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the operators' page says of virsh: the commands are those that the suite
libvirt runs, and what is refused is what it was answered there.
"""

import re

from kuf.cli import Failure
from kuf.documents.blocks import Blocks
from kuf.documents.messages import PAGE
from kuf.paths import TOP
from kuf.virt.commands import COMMANDS
from kuf.virt.refusals import OLDER, REFUSALS


SECTION = re.compile(r'^With libvirt\n~+\n(.*?)\n^[^\n]+\n[-~]+\n',
                     re.M | re.S)


def refused() -> str:
    """What virsh says of each."""
    lines = [f'{name}:\n  | {said}\n' for name, said in REFUSALS.items()]
    lines += [f'{name}, libvirt 9.0:\n  | {said}\n'
              for name, said in OLDER.items()]
    return '\n'.join(lines)


BLOCKS: Blocks = {'virsh-refusals': refused}


def check() -> None:
    """Each command is tested, and each that is tested is there."""
    section = SECTION.search((TOP / PAGE).read_text(encoding='utf-8'))
    if not section:
        raise Failure(f"{PAGE} has no section 'With libvirt'")
    there = set(re.findall(r'^  (virsh .*)$', section[1], re.M))
    tested = set(COMMANDS.values())
    if wrong := sorted(there ^ tested):
        raise Failure(f"'{wrong[0]}' is not both in {PAGE} and in "
                      'kuf/virt/commands.py; correct either')
