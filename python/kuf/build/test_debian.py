# SPDX-License-Identifier: GPL-2.0-or-later
"""
Commands in a Debian that is in a folder; this machine's stands in for one.
"""

from pathlib import Path
import re
import subprocess
import tempfile
from typing import Any
import unittest

from kuf.build import packages
from kuf.build.debian import inside


# One that ends by nothing but being killed.
DEAF = '(trap "" HUP INT TERM; exec sleep 1000) & echo $!; wait'


class InsideTest(unittest.TestCase):
    """Processes with numbers of their own."""

    def start(self, script: str, **how: Any) -> 'subprocess.Popen[str]':
        """Start a script there."""
        return subprocess.Popen(
            [*packages.as_root('a test of new process numbers'),
             *inside(Path('/')), 'sh', '-c', script],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)

    def run_there(self, script: str, said: str = '') -> 'tuple[int, str]':
        """Run one; returns its status, and what it prints."""
        with self.start(script, stdin=subprocess.PIPE) as process:
            output, _ = process.communicate(said)
            return process.returncode, output

    def test_status(self) -> None:
        """It is the command's, and so are its streams."""
        self.assertEqual(self.run_there('cat; exit 3', 'said\n'),
                         (3, 'said\n'))
        self.assertEqual(self.run_there('sh -c "kill \\$\\$"; exit $?')[0],
                         143)

    def test_numbers(self) -> None:
        """It sees none of this machine's processes."""
        self.assertEqual(self.run_there('echo /proc/[0-9]*'),
                         (0, '/proc/1\n'))

    def test_signals(self) -> None:
        """None is ignored there, but what the C library has for itself."""
        status = self.run_there('cat /proc/self/status')[1]
        ignored = re.search(r'^SigIgn:\t([0-9a-f]+)$', status, re.M)
        assert ignored
        self.assertEqual(int(ignored[1], 16) & 0x7fffffff, 0)

    def test_ended(self) -> None:
        """A signal ends all that runs there, before it is over."""
        for way in ('terminate', 'kill'):
            with self.subTest(way), tempfile.NamedTemporaryFile() as held:
                process = self.start(f'exec 9>{held.name}; flock 9; {DEAF}',
                                     stdin=subprocess.DEVNULL)
                self.addCleanup(process.communicate)
                self.addCleanup(process.kill)
                assert process.stdout
                process.stdout.readline()
                getattr(process, way)()
                process.wait(10)
                # Whoever is killed himself can't wait.
                wait = ['-n'] if way == 'terminate' else ['-w', '10']
                subprocess.run(['flock', *wait, held.name, 'true'], check=True)


if __name__ == '__main__':
    unittest.main()
