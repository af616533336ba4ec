# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of host/selftests: that it notices each way in which a test ends.
"""

from pathlib import Path
import tempfile
from typing import Dict
import unittest

from kuf.selftests.boot import run_cases
from kuf.selftests.cases import Case
from kuf.selftests.ended import verdict
from kuf.selftests.target import Target


ASSERTION = '==== Test Assertion Failure ====\\n  f.c:1: no\\n'
# What stands for selftests, and how each should be said to end.
TESTS = {
    'passes': ('exit 0', 'pass'),
    'is_skipped': ('echo "1..0 # SKIP - Requirement not met: x"; exit 4',
                   'skip: Requirement not met: x'),
    'fails': (f'printf "{ASSERTION}"; exit 254', 'fail: f.c:1: no'),
    'is_killed': ('kill -ALRM $$', 'fail: status -14'),
    'sleeps': ('sleep 1000', 'timeout'),
    'warns': ('echo WARNING > /sys/kernel/debug/provoke-crash/DIRECT',
              'complaint: WARNING: CPU: '),
    'panics': ('echo c > /proc/sysrq-trigger; sleep 60',
               "complaint: the host's kernel failed: Kernel panic"),
    'powers_off': ('echo o > /proc/sysrq-trigger; sleep 60',
                   "complaint: the host's kernel failed: the host ended"),
    'ends': ('exit 0', 'pass'),
}


class Ends:
    """
    What each emulated host is asked: one run of everything, in which what
    follows a bad end is run, too.
    """

    class Test(unittest.TestCase):
        """On one emulator."""

        emulator: str
        verdicts: Dict[str, str]

        @classmethod
        def setUpClass(cls) -> None:
            # The host does not see this machine's /tmp change, but its start.
            with tempfile.TemporaryDirectory(prefix='selftests-') as folder:
                for name, (script, _) in TESTS.items():
                    path = Path(folder, name)
                    path.write_text(f'#!/bin/sh\n{script}\n',
                                    encoding='ascii')
                    path.chmod(0o755)
                cases = [Case(name, timeout=10) for name in TESTS]
                target = Target('default', 'tdp', Path(folder),
                                emulator=cls.emulator)
                cls.verdicts = {
                    case.name: verdict(ended) for case, ended in
                    zip(cases, run_cases(target, cases))}

        def test_all_were_run(self) -> None:
            """None is left out."""
            self.assertEqual(list(self.verdicts), list(TESTS))

        def test_verdicts(self) -> None:
            """Each has ended as it should."""
            for name, (_, expected) in TESTS.items():
                with self.subTest(name):
                    self.assertEqual(self.verdicts[name][:len(expected)],
                                     expected)


class TcgTest(Ends.Test):
    """AMD's processor."""

    emulator = 'tcg'


class BochsTest(Ends.Test):
    """Intel's."""

    emulator = 'bochs'


if __name__ == '__main__':
    unittest.main()
