# SPDX-License-Identifier: GPL-2.0-or-later
"""
Documents of what has run, for programs that also run in an emulated host.
"""

from pathlib import Path
from typing import Any, Dict


def publish_more(name: str, numbers: Path, kernel: str,
                 digests: Dict[str, Any]) -> None:
    """
    As kuf.documents.publish has it.

    @param kernel: its name for host/run
    """
    # Charts take time to load, and need much that a host has not.
    # pylint: disable=import-outside-toplevel
    from kuf.bench.counting import release
    from kuf.documents import publish
    publish.publish_more(name, numbers, release(kernel), digests)
