# SPDX-License-Identifier: GPL-2.0-or-later
"""
Commands whose output goes to a log, and what that says when they fail.
"""

from contextlib import contextmanager
from pathlib import Path
import re
import subprocess
from typing import (
    IO,
    Iterator,
    Mapping,
    Optional,
)

from kuf import process
from kuf.cli import Failure
from kuf.process import Word


# How the programs in question begin a line that says what went wrong.
ERROR = re.compile(r'^(e:|error|fatal|dpkg-source: error|tar:|.*: error:)',
                   re.IGNORECASE)


class CommandFailed(Failure):
    """A command whose output is in a log."""


class Log:
    """The output of one step, all commands of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')

    def run(self, *command: Word, cwd: Optional[Path] = None,
            env: Optional[Mapping[str, str]] = None,
            stdin: Optional[IO[bytes]] = None,
            stdout: Optional[IO[bytes]] = None) -> None:
        """Run a command; its output, or its errors only, go to the log."""
        with open(self.path, 'ab') as log:
            status = process.run(
                command, cwd=cwd, stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or log, stderr=log, env=env, close_fds=False)
        if status:
            raise CommandFailed(f"'{command[0]}' failed (see {self.path})")

    def error(self) -> str:
        """The last line that says what went wrong."""
        lines = self.path.read_text(encoding='utf-8', errors='replace')
        errors = [line for line in lines.splitlines() if ERROR.match(line)]
        return errors[-1].strip() if errors else ''

    @contextmanager
    def explains(self, what: str, then: str = '') -> Iterator[None]:
        """A command that fails here ends with one sentence: what, and why."""
        try:
            yield
        except CommandFailed as failed:
            error = self.error()
            raise Failure(f"{what}{': ' if error else ''}{error} (see "
                          f"{self.path}){'; ' if then else ''}{then}") \
                from failed
