# SPDX-License-Identifier: GPL-2.0-or-later
"""
From a measurement to documents: keep it, and generate what is made of it.
"""

from pathlib import Path

from kuf.documents import main
from kuf.documents.records import (
    Data,
    keep,
    same_versions,
    versions_of,
)


def publish(name: str, numbers: Path, linux: str, digest: Data) -> None:
    """
    The digest is what is kept of the numbers, which were measured, by that
    name, on that Linux.
    """
    print(keep(versions_of(numbers, linux), name, digest))
    main.generate()


def publish_more(name: str, numbers: Path, linux: str, digests: Data) -> None:
    """
    Some digests, by what each is of, which join others of that name that were
    kept of the same QEMU and Linux.
    """
    publish(name, numbers, linux,
            {**(same_versions(name, linux) or {}), **digests})
