# SPDX-License-Identifier: GPL-2.0-or-later
"""
The developers' page names each file of the fork in QEMU.
"""

from kuf.cli import Failure
from kuf.documents.sources import OVERLAY
from kuf.paths import TOP


PAGE = 'docs/devel/migration/postcopy-kvm-userfault.rst'


def check() -> None:
    """All are there."""
    page = (TOP / PAGE).read_text(encoding='utf-8')
    for folder in (*OVERLAY, 'tests'):
        for path in sorted((TOP / folder).rglob('*.[ch]')):
            if f'{path.name}``' not in page:
                raise Failure(f"{PAGE} does not say what "
                              f'{path.relative_to(TOP)} is for; add it to '
                              "'Files' or 'Tests'")
