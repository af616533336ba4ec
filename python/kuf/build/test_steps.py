# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what all steps have: stamps, locks and logs.
"""

from pathlib import Path
import subprocess
import tempfile
import unittest

from kuf.build import stamp
from kuf.build.log import CommandFailed, Log
from kuf.cli import Failure


class StepTest(unittest.TestCase):
    """A folder to work in."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class StampTest(StepTest):
    """What was done."""

    def test_stamp(self) -> None:
        path = self.folder / 'stamp'
        self.assertFalse(stamp.is_at(path, 'a'))
        stamp.put(path, 'a')
        self.assertTrue(stamp.is_at(path, 'a'))
        self.assertFalse(stamp.is_at(path, 'b'))
        self.assertEqual([path], list(self.folder.iterdir()))

    def test_checksum(self) -> None:
        path = self.folder / 'file'
        path.write_bytes(b'bc')
        self.assertEqual(stamp.checksum('a', path, b'd'),
                         stamp.checksum('abcd'))

    def test_replace(self) -> None:
        old, new = self.folder / 'old', self.folder / 'new'
        for path in (old, new):
            path.mkdir()
            (path / path.name).touch()
        stamp.replace(new, old)
        self.assertEqual([path.name for path in old.iterdir()], ['new'])
        self.assertFalse(new.exists())


class LockTest(StepTest):
    """One at a time."""

    def test_who_is_refused(self) -> None:
        path = self.folder / 'below/lock'
        with stamp.lock(path):
            with self.assertRaisesRegex(Failure, 'busy'):
                with stamp.lock(path, 'busy'):
                    pass
        with stamp.lock(path, 'busy'):
            pass

    def test_what_was_started_keeps_it(self) -> None:
        path = self.folder / 'lock'
        with stamp.lock(path):
            # Not left by "with": it stands for what outlives its starter.
            # pylint: disable=consider-using-with
            started = subprocess.Popen(['cat'], stdin=subprocess.PIPE,
                                       close_fds=False)
        with self.assertRaises(Failure):
            with stamp.lock(path, 'busy'):
                pass
        started.communicate()
        with stamp.lock(path, 'busy'):
            pass


class LogTest(StepTest):
    """What a log says."""

    def fail(self, script: str) -> str:  # type: ignore
        """The sentence that a failing script ends with."""
        log = Log(self.folder / 'log')
        with self.assertRaises(Failure) as caught:
            with log.explains('it failed', 'try again'):
                log.run('sh', '-c', f'{script}; exit 1')
        return str(caught.exception)

    def test_last_error(self) -> None:
        self.assertEqual(
            self.fail('echo error: one; echo cc: error: two >&2; echo three'),
            f'it failed: cc: error: two (see {self.folder}/log); try again')

    def test_no_error(self) -> None:
        self.assertEqual(self.fail('echo nothing of interest'),
                         f'it failed (see {self.folder}/log); try again')

    def test_failure_by_itself(self) -> None:
        log = Log(self.folder / 'log')
        with self.assertRaisesRegex(CommandFailed, "'false' failed"):
            log.run('false')
