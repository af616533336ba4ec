# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what hosts are made of, without any host.
"""

from pathlib import Path
import subprocess
import tempfile
from typing import List
import unittest
from unittest import mock

from kuf import architectures
from kuf.cli import Failure
from kuf.emulators import EMULATORS
from kuf.host.complaints import first_complaint, taint_complaint
from kuf.host.job import (
    Job,
    enter,
    exports,
    write_script,
)
from kuf.host.kernels import host_kernel


class ScriptTest(unittest.TestCase):
    """What init starts."""

    def run_script(self, command: List[str], before: str = ''
                   ) -> 'subprocess.CompletedProcess[str]':
        """Run it here."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'command')
            write_script(path, Job('host/run', command), before)
            return subprocess.run([path], text=True, capture_output=True,
                                  check=False)

    def test_words(self) -> None:
        """Whatever is in them."""
        odd = ['a b', "c'd", '$e "f"', '\n', '']
        done = self.run_script(['printf', '<%s>', *odd])
        self.assertEqual(done.stdout, ''.join(f'<{word}>' for word in odd))

    def test_surroundings(self) -> None:
        """The caller's folder and environment."""
        done = self.run_script(['sh', '-c', 'echo "$ODD"; pwd'],
                               exports({'ODD': "x'y", 'no name': '1'})
                               + enter('/usr/share'))
        self.assertEqual(done.stdout, "x'y\n/usr/share\n")

    def test_no_folder(self) -> None:
        """It is the host's failure, not the command's."""
        done = self.run_script(['true'], enter('/no such folder'))
        self.assertEqual(done.returncode, 125)

    def test_not_found(self) -> None:
        """It says who says so."""
        done = self.run_script(['no-such-command', 'argument'])
        self.assertEqual((done.returncode, done.stderr), (
            127, 'host/run: no-such-command: command not found\n'))


class ComplaintsTest(unittest.TestCase):
    """What a kernel says of itself."""

    def test_messages(self) -> None:
        """The first line that is one, with a time or without."""
        for line in ('[   12.5] WARNING: CPU: 0 PID: 1', 'BUG: KASAN',
                     '[ 1.0] Kernel panic - not syncing', 'rcu: INFO: x'):
            self.assertEqual(
                first_complaint(f'[ 0.0] fine\n{line}\nBUG: later\n'), line)
        for text in ('', '[ 1.0] fine\n', 'a WARNING: in a sentence\n'):
            self.assertIsNone(first_complaint(text))

    def test_taints(self) -> None:
        """A module from elsewhere is no complaint, a warning is."""
        self.assertIsNone(taint_complaint(1 << 12))
        self.assertEqual(taint_complaint(1 << 9 | 1 << 12), 'taint 0x1200')


class TablesTest(unittest.TestCase):
    """What there is to choose from."""

    def test_unknown_kernel(self) -> None:
        """All others are named."""
        with self.assertRaisesRegex(Failure, "no kernel 'x'; there are: .*"
                                    'default.*nouffd.*base.*base-nouffd.*'
                                    'stock, base-stock'):
            host_kernel('x', EMULATORS['tcg'].architecture)

    def test_unknown_architecture(self) -> None:
        """Guests need KVM, and so a machine like them."""
        with mock.patch('platform.machine', return_value='sparc64'):
            with self.assertRaisesRegex(Failure, "'sparc64', only on: x86"):
                architectures.native()

    def test_modes(self) -> None:
        """KVM works in a way of its own first, and is told of others."""
        for emulator in EMULATORS.values():
            self.assertEqual(emulator.modes['tdp'], '')
            self.assertTrue(emulator.launcher.is_file())


if __name__ == '__main__':
    unittest.main()
