# SPDX-License-Identifier: GPL-2.0-or-later
"""
Error messages that the operators' page quotes: QEMU has to say them.
"""

import re
from typing import Iterator

from kuf.cli import Failure
from kuf.documents.sources import sources, strings
from kuf.paths import TOP


PAGE = 'docs/system/postcopy-kvm-userfault.rst'
SECTION = re.compile(r'^Errors and what to do\n-+\n(.*?)\n\n^[^\n]+\n-+\n',
                     re.M | re.S)
# Shorter pieces stand anywhere.
PIECE = 10
# What upstream says.
UPSTREAM = ('is in use, can not be deleted',)


def pieces(quoted: str) -> Iterator[str]:
    """What a quoted message says that is always the same."""
    for piece in re.split(r"…|[:;] |'[^']*'", quoted):
        if len(piece.strip()) >= PIECE:
            yield piece.strip()


def quoted() -> Iterator[str]:
    """The messages."""
    section = SECTION.search((TOP / PAGE).read_text(encoding='utf-8'))
    if not section:
        raise Failure(f"{PAGE} has no section 'Errors and what to do'")
    for line in re.findall(r'^``.*$', section[1], re.M):
        yield from re.findall(r'``([^`]+)``', line)


def check() -> None:
    """Each is in the source."""
    said = re.sub(r"'%s'|%[sd]|" + r'"\s*[A-Z]\w+\s*"', '…',
                  strings('\n'.join(sources().values())))
    for message in quoted():
        for piece in pieces(message):
            if piece not in said and piece not in UPSTREAM:
                raise Failure(f"{PAGE} quotes '{message}', and no message of "
                              f"QEMU's has '{piece}'; correct either")
