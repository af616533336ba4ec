# SPDX-License-Identifier: GPL-2.0-or-later
"""
From a measurement to documents: keep it, and generate what is made of it.
"""

from pathlib import Path

from kuf.documents import main
from kuf.documents.records import Data, keep, versions_of


def publish(name: str, numbers: Path, linux: str, digest: Data) -> None:
    """
    The digest is what is kept of the numbers, which were measured, by that
    name, on that Linux.
    """
    print(keep(versions_of(numbers, linux), name, digest))
    main.generate()
