# SPDX-License-Identifier: GPL-2.0-or-later
"""
Programs that this one waits for.
"""

import subprocess
from typing import Any


def run(command: Any, **how: Any) -> int:
    """
    Run a program, as by subprocess.call(); returns its status.

    Whatever ends this program meanwhile ends that one first, which has the time
    that it needs to end what it has started.
    """
    with subprocess.Popen(command, **how) as running:
        try:
            return running.wait()
        except BaseException:
            running.terminate()
            running.wait()
            raise
