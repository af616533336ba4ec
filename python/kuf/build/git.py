# SPDX-License-Identifier: GPL-2.0-or-later
"""
Git that does not depend on who runs it: the same files give the same commits,
and the same commits give the same files.
"""

import os
from pathlib import Path
import subprocess
from typing import Dict, Mapping, Optional

from kuf.process import Word


COMMITTER = {'GIT_COMMITTER_NAME': 'base',
             'GIT_COMMITTER_EMAIL': 'base@localhost'}

# A caller's own repository (a git hook, say) must not become ours.
FOREIGN = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE')


def environment() -> Dict[str, str]:
    """That of every git."""
    env = {name: value for name, value in os.environ.items()
           if name not in FOREIGN}
    return dict(env, GIT_CONFIG_GLOBAL='/dev/null', GIT_CONFIG_NOSYSTEM='1',
                **COMMITTER)


class Git:
    """The repository of a work tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *args: Word) -> list[Word]:
        """For who runs it himself, with environment()."""
        return ['git', '-C', self.folder, *args]

    def raw(self, *args: Word, stdin: bytes = b'',
            env: Optional[Mapping[str, str]] = None) -> bytes:
        """What git prints; an error is on stderr, and an exception."""
        return subprocess.run(
            self.command(*args), input=stdin, stdout=subprocess.PIPE,
            env=dict(environment(), **(env or {})), check=True).stdout

    def __call__(self, *args: Word, stdin: bytes = b'',
                 env: Optional[Mapping[str, str]] = None) -> str:
        """The same as text, without the last newline."""
        return self.raw(*args, stdin=stdin, env=env).decode().rstrip('\n')

    def find(self, *args: Word) -> str:
        """What git prints, or nothing if it fails."""
        done = subprocess.run(
            self.command(*args), stdin=subprocess.DEVNULL, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return '' if done.returncode else done.stdout.decode().rstrip('\n')

    def has(self, *args: Word) -> bool:
        """Whether git succeeds."""
        return subprocess.run(
            self.command(*args), stdin=subprocess.DEVNULL, env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False).returncode == 0
