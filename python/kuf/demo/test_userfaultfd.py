# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how ways to a userfaultfd are counted, in a host whose kernel can.
"""

from pathlib import Path
import subprocess
import sys
import unittest

from kuf.demo.counters import TRACING, UserfaultfdCalls


ASK = '''
import ctypes, os, threading

def ask():
    ctypes.CDLL(None).syscall(323, 0)
    try:
        os.open("/dev/userfaultfd", os.O_RDWR)
    except OSError:
        pass
    open("/dev/null").close()
'''
HERE = ASK + 'ask()\n'
THREAD = ASK + '''
thread = threading.Thread(target=ask)
thread.start()
thread.join()
'''
CHILD = ASK + '''
if os.fork() == 0:
    ask()
    os._exit(0)
os.wait()
'''


def run(code: str, *wrapper: str) -> None:
    """A program."""
    subprocess.run([*wrapper, sys.executable, '-c', code], check=True)


class UserfaultfdTest(unittest.TestCase):
    """Both ways are counted, wherever in a command, and nothing else."""

    def setUp(self) -> None:
        self.calls = UserfaultfdCalls('test')
        self.calls.start()
        self.addCleanup(self.calls.close)

    def count(self, code: str) -> int:
        """How often a program asks."""
        before = self.calls.count()
        run(code, *self.calls.wrapper())
        after = self.calls.count()
        assert before is not None and after is not None
        return after - before

    def test_ways(self) -> None:
        """By itself, in a thread, in a child."""
        self.assertEqual(self.count(HERE), 2)
        self.assertEqual(self.count(THREAD), 2)
        self.assertEqual(self.count(CHILD), 2)

    def test_others(self) -> None:
        """Who was not wrapped, and who asks for something else."""
        self.assertEqual(self.count('open("/dev/null").close()'), 0)
        run(HERE)
        self.assertEqual(self.calls.count(), 0)

    def test_two(self) -> None:
        """They do not see each other's commands."""
        other = UserfaultfdCalls('other')
        other.start()
        self.addCleanup(other.close)
        run(HERE, *other.wrapper())
        self.assertEqual((self.calls.count(), other.count()), (0, 2))

    def test_status(self) -> None:
        """The command is what it would be without."""
        done = subprocess.run([*self.calls.wrapper(), 'sh', '-c',
                               'echo "$0" "$1"; exit 7', 'a b', '$c'],
                              stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (7, 'a b $c\n'))

    def test_nothing_stays(self) -> None:
        """It leaves the kernel as it was."""
        self.calls.close()
        self.assertIsNone(self.calls.count())
        self.assertEqual(self.calls.wrapper(), [])
        self.assertFalse(self.calls.instance.exists())
        self.assertEqual((TRACING / 'kprobe_events').read_text('ascii'), '')

    def test_unable(self) -> None:
        """Where it can't be counted, nobody says that there was none."""
        calls = UserfaultfdCalls('x')
        calls.instance = Path('/proc/none')
        calls.start()
        self.assertIsNone(calls.count())
        self.assertEqual(calls.wrapper(), [])


if __name__ == '__main__':
    unittest.main()
