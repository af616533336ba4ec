# SPDX-License-Identifier: GPL-2.0-or-later
"""
What 'make install' makes, 'make uninstall' removes, and nothing else.
"""

from pathlib import Path
import subprocess
import tempfile
from typing import List
import unittest

from kuf.build.install import PROGRAM, Installation, files
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


def tree(folder: Path) -> List[str]:
    """All that is below it."""
    return sorted(str(path.relative_to(folder))
                  for path in folder.rglob('*'))


class InstallTest(unittest.TestCase):
    """An installation of small files."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix='install-')
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        self.root = self.top / 'root'
        self.root.mkdir()
        self.program = self.top / 'program'
        self.program.write_text('#!/bin/sh\n', encoding='utf-8')
        self.program.chmod(0o700)
        self.text = self.top / 'text'
        self.text.write_text('text\n', encoding='utf-8')

    def at(self, prefix: str = '/opt/qemu') -> Installation:
        """What is there now."""
        return Installation(self.root, Path(prefix))

    def test_nothing_left(self) -> None:
        """Folders that were made go; those that were there stay."""
        (self.root / 'opt').mkdir()
        self.at().install({'bin/p': self.program, 'share/a/b': self.text})
        self.assertEqual(
            (self.root / 'opt/qemu/bin/p').stat().st_mode & 0o777, 0o755)
        self.assertEqual(
            (self.root / 'opt/qemu/share/a/b').stat().st_mode & 0o777, 0o644)
        self.at().uninstall()
        self.assertEqual(tree(self.root), ['opt'])

    def test_of_others(self) -> None:
        """What somebody else has put there is not touched."""
        self.at().install({'share/a/b': self.text})
        other = self.root / 'opt/qemu/share/a/other'
        other.write_text('theirs', encoding='utf-8')
        self.at().uninstall()
        self.assertEqual(tree(self.root),
                         ['opt', 'opt/qemu', 'opt/qemu/share',
                          'opt/qemu/share/a', 'opt/qemu/share/a/other'])

    def test_again(self) -> None:
        """A later one takes the place of an earlier one."""
        self.at().install({'bin/old': self.program, 'bin/p': self.text})
        self.at().install({'bin/p': self.program})
        self.assertFalse((self.root / 'opt/qemu/bin/old').exists())
        self.assertEqual((self.root / 'opt/qemu/bin/p').read_bytes(),
                         self.program.read_bytes())
        self.at().uninstall()
        self.assertEqual(tree(self.root), [])

    def test_cut_short(self) -> None:
        """What a failed one has made can be removed."""
        (self.root / 'opt/qemu/bin/p/busy').mkdir(parents=True)
        with self.assertRaises(OSError):
            self.at().install({'share/a/b': self.text, 'bin/p': self.program})
        self.assertTrue((self.root / 'opt/qemu/share/a/b').exists())
        self.at().uninstall()
        self.assertEqual(tree(self.root), ['opt', 'opt/qemu', 'opt/qemu/bin',
                                           'opt/qemu/bin/p',
                                           'opt/qemu/bin/p/busy'])

    def test_refused(self) -> None:
        """What can't be done is said, and nothing is touched."""
        with self.assertRaisesRegex(Failure, 'nothing is installed in'):
            self.at().uninstall()
        with self.assertRaisesRegex(Failure, 'not an absolute path'):
            self.at('opt')
        self.at().install({'bin/p': self.program})
        installed = self.at().list
        installed.write_text('../program\n', encoding='utf-8')
        with self.assertRaisesRegex(Failure, 'is not below what was'):
            self.at()
        self.assertTrue(self.program.exists())


class MakeTest(unittest.TestCase):
    """What is really installed, by the commands that users call."""

    def make(self, *words: str) -> 'subprocess.CompletedProcess[str]':
        """Make, with its messages."""
        return subprocess.run(
            ['make', '-s', '-C', str(TOP), *words], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)

    def test_runs_from_there(self) -> None:
        """QEMU finds its firmware, and starts a machine with it."""
        with tempfile.TemporaryDirectory(prefix='install-') as name:
            root = Path(name)
            words = ('PREFIX=/opt/qemu', f'DESTDIR={root}')
            done = self.make('install', *words)
            self.assertEqual(done.returncode, 0, done.stdout)
            for path in files(Project(TOP)):
                self.assertTrue((root / 'opt/qemu' / path).is_file(), path)
            started = subprocess.run(
                [root / 'opt/qemu/bin' / PROGRAM, '-M', 'q35,accel=tcg', '-S',
                 '-display', 'none', '-monitor', 'stdio'], input='quit\n',
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=120, check=False)
            self.assertEqual(started.returncode, 0, started.stdout)
            self.assertNotIn('qemu-system', started.stdout)
            done = self.make('uninstall', *words)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(tree(root), [])

    def test_cannot(self) -> None:
        """One sentence when that is not possible."""
        done = self.make('install', 'DESTDIR=/proc')
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"install: error: '/proc/usr.*' can't be"
                                      r' written: .*; run as root')


if __name__ == '__main__':
    unittest.main()
