# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how programs end, and of what they take.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from typing import List
import unittest

from kuf import cli
from kuf.paths import TOP


PROGRAM = '''
import os, signal, sys, time
from kuf import cli, process
def work():
    {}
sys.exit(cli.run('some/program', work, failed=125))
'''


def start(work: str) -> 'subprocess.Popen[str]':
    """A program that does that."""
    return subprocess.Popen(
        [sys.executable, '-B', '-c', PROGRAM.format(work)], text=True,
        env={**os.environ, 'PYTHONPATH': str(TOP / 'python')},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class ArgumentsTest(unittest.TestCase):
    """Types of arguments."""

    def test_megabytes(self) -> None:
        """Sizes as QEMU takes them."""
        self.assertEqual([cli.megabytes(text) for text in
                          ('512', '512M', '4G', '2g')],
                         [512, 512, 4096, 2048])
        for text in ('', '0', '1T', '-1', '1.5G', 'G'):
            with self.assertRaisesRegex(argparse.ArgumentTypeError, 'size'):
                cli.megabytes(text)

    def test_positive(self) -> None:
        """Numbers from 1."""
        self.assertEqual(cli.positive('12'), 12)
        for text in ('', '0', '-1', '1x'):
            with self.assertRaisesRegex(argparse.ArgumentTypeError, 'from 1'):
                cli.positive(text)

    def test_counted(self) -> None:
        """One of them, others, and nobody knows."""
        self.assertEqual([cli.counted(n, 'vCPU') for n in (0, 1, 2, None)],
                         ['0 vCPUs', '1 vCPU', '2 vCPUs', '? vCPUs'])


class EndTest(unittest.TestCase):
    """How a program ends."""

    def ends(self, work: str, *signals: int) -> List[object]:
        """Its status and what it said; signals come when it is up."""
        with start(work) as process:
            assert process.stdout and process.stderr
            for number in signals:
                if process.stdout.readline() == 'up\n':
                    process.send_signal(number)
            return [process.wait(60), process.stderr.read()]

    def test_status(self) -> None:
        """Its own."""
        self.assertEqual(self.ends('return 7'), [7, ''])

    def test_failure(self) -> None:
        """A sentence."""
        self.assertEqual(self.ends('raise cli.Failure("it is so; do that")'),
                         [125, 'some/program: error: it is so; do that\n'])
        self.assertEqual(self.ends('open("/none")')[0], 125)

    def test_bug(self) -> None:
        """What nobody has foreseen is shown."""
        status, said = self.ends('raise KeyError(5)')
        self.assertEqual(status, 1)
        self.assertIn('Traceback', str(said))

    def test_interrupted(self) -> None:
        """As a process that the signal kills, without a word."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                self.assertEqual(self.ends(
                    'print("up", flush=True); time.sleep(60)', number),
                    [128 + number, ''])

    def test_interrupted_once(self) -> None:
        """Nothing cuts the clearing up short, or changes the status."""
        work = ('\n    try: print("up", flush=True); time.sleep(60)'
                '\n    finally:'
                '\n        print("up", flush=True); time.sleep(1)'
                '\n        raise OSError("of no account")')
        self.assertEqual(self.ends(work, signal.SIGTERM, signal.SIGINT),
                         [128 + signal.SIGTERM, ''])

    def test_children(self) -> None:
        """A program that is waited for has the time that it needs."""
        work = ('process.run(["sh", "-c", "trap \'sleep 0.5; echo end; exit\''
                ' TERM; echo up; while :; do sleep 0.1; done"])')
        with start(work) as running:
            assert running.stdout
            self.assertEqual(running.stdout.readline(), 'up\n')
            began = time.monotonic()
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.stdout.read(), 'end\n')
            self.assertEqual(running.wait(60), 128 + signal.SIGTERM)
            self.assertGreater(time.monotonic() - began, 0.5)

    def test_child_being_started(self) -> None:
        """One that is there already, but that we do not know of yet."""
        work = """
    class Late(process.subprocess.Popen):
        def __init__(self, *args, **how):
            super().__init__(*args, **how)
            self.stdout.readline()
            os.kill(os.getpid(), signal.SIGTERM)
    process.subprocess.Popen = Late
    process.run(["sh", "-c", "trap 'echo end >&2; exit' TERM; echo up;"
                 " while :; do sleep 0.1; done"],
                stdout=process.subprocess.PIPE)
"""
        self.assertEqual(self.ends(work),
                         [128 + signal.SIGTERM, 'end\n'])


if __name__ == '__main__':
    unittest.main()
