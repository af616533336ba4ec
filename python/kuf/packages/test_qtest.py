# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU's own tests of postcopy, with the packaged QEMU and KVM on Debian's kernel.
"""

import os
import re
import shutil
import unittest
from unittest import mock

from kuf.build.install import PROGRAM
from kuf.build.stock import WITHOUT_QTEST
from kuf.packages import host
from kuf.paths import BUILD, RESULTS


TESTS = BUILD / 'qemu/tests/qtest/migration-test'
CASES = ('plain', 'preempt/plain', 'recovery/plain')


class QtestTest(unittest.TestCase):
    """In the emulated host."""

    def setUp(self) -> None:
        folder = RESULTS / f'qtest-{os.getpid()}'
        folder.mkdir(parents=True)
        self.addCleanup(shutil.rmtree, folder)
        # The framework takes the architecture from the program's name.
        self.program = folder / 'qemu-system-x86_64'
        self.program.write_text(
            f'{WITHOUT_QTEST}exec /usr/bin/{PROGRAM} "$@"\n', encoding='ascii')
        self.program.chmod(0o755)

    def check(self, suite: str) -> None:
        """All of its cases pass, and none is skipped."""
        names = [f'/x86_64/migration/{suite}/{name}' for name in CASES]
        with mock.patch.dict(os.environ, QTEST_QEMU_BINARY=str(self.program)):
            done = host.migrate(
                TESTS, '--full', '--tap',
                *(word for name in names for word in ('-p', name)),
                timeout=1700)
        self.assertEqual(done.returncode, 0, done.stdout)
        passed = re.findall(r'^ok \d+ (/\S+)$', done.stdout, re.M)
        self.assertEqual(sorted(passed), sorted(names), done.stdout)

    def test_userfaultfd(self) -> None:
        """Upstream's cases."""
        self.check('postcopy')

    def test_kvm_userfault(self) -> None:
        """The same with KVM userfault."""
        self.check('postcopy-kvm-userfault')


if __name__ == '__main__':
    unittest.main()
