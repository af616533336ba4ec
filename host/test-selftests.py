#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of host/selftests: that it notices each way in which a test ends.

The host is emulated by TCG, or by what the one argument names.
"""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
import sys
import tempfile
from typing import Dict
import unittest

TOP = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
LOADER = SourceFileLoader('selftests', str(TOP / 'host/selftests'))
SPEC = spec_from_loader('selftests', LOADER)
assert SPEC
selftests = module_from_spec(SPEC)
# A NamedTuple looks its module up.
sys.modules['selftests'] = selftests
LOADER.exec_module(selftests)

EMULATOR = sys.argv.pop() if len(sys.argv) > 1 else 'tcg'
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


class SelftestsTest(unittest.TestCase):
    """One run of everything: what follows a bad end is run, too."""

    verdicts: Dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        # The host does not see this machine's /tmp change, but its start.
        with tempfile.TemporaryDirectory(prefix='selftests-') as folder:
            for name, (script, _) in TESTS.items():
                path = Path(folder, name)
                path.write_text(f'#!/bin/sh\n{script}\n', encoding='ascii')
                path.chmod(0o755)
            cases = [selftests.Case(name, timeout=10) for name in TESTS]
            target = selftests.Target('default', 'tdp', Path(folder),
                                      emulator=EMULATOR)
            cls.verdicts = {
                case.name: selftests.verdict(ended) for case, ended in
                zip(cases, selftests.run_cases(target, cases))}

    def test_all_were_run(self) -> None:
        self.assertEqual(list(self.verdicts), list(TESTS))

    def test_verdicts(self) -> None:
        for name, (_, verdict) in TESTS.items():
            with self.subTest(name):
                self.assertEqual(self.verdicts[name][:len(verdict)], verdict)


if __name__ == '__main__':
    unittest.main(verbosity=2)
