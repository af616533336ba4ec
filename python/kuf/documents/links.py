# SPDX-License-Identifier: GPL-2.0-or-later
"""
Links between documents lead somewhere.
"""

from pathlib import Path
import re

from kuf.cli import Failure
from kuf.paths import TOP


LINK = re.compile(r'\]\((?!https?:|#)([^)#]+)[^)]*\)')


def check(document: Path) -> None:
    """All links of a document in Markdown."""
    for target in LINK.findall(document.read_text(encoding='utf-8')):
        if not (document.parent / target).exists():
            raise Failure(f"{document.relative_to(TOP)} has a link to "
                          f"'{target}', which is not there; correct it")
