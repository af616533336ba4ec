# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest is migrated from one packaged QEMU to another, in a Debian 13 by an
ordinary user of it, where userfaultfd is not for such users.
"""

import json
import os
import shutil
import subprocess
import unittest

from kuf.build import stamp
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.modes import KVM_USERFAULT, USERFAULTFD
from kuf.packages import installed
from kuf.paths import RESULTS, TOP
from kuf.report.figures import verdict
from kuf.report.screen import summary


KERNEL = 'default'


class PostcopyTest(unittest.TestCase):
    """By the demonstration's guest, which checks all that it reads."""

    def setUp(self) -> None:
        self.tree = installed.build(Project(TOP))
        self.output = RESULTS / f'packaged-{os.getpid()}'
        self.addCleanup(shutil.rmtree, self.output, ignore_errors=True)
        (self.output / 'logs').mkdir(parents=True)
        # The user there is another one than here.
        for folder in (self.output, self.output / 'logs'):
            folder.chmod(0o777)

    def migrate(self, mode: str) -> 'subprocess.CompletedProcess[str]':
        """In the emulated host."""
        return subprocess.run(
            [TOP / 'host/run', '--smp', '2', '--kernel', KERNEL,
             '--timeout', '500', '--', TOP / 'host/as-user', self.tree.root,
             TOP / 'demo/run', '--inside', '--modes', mode,
             '--qemu', f'/usr/bin/{PROGRAM}', '--output', self.output],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)

    def test_userfaultfd(self) -> None:
        """That user gets none: the destination says so."""
        done = self.migrate(USERFAULTFD)
        self.assertRegex(done.stdout, 'userfaultfd, round 1, failed in .*'
                                      '[Uu]serfaultfd')

    def test_kvm_userfault(self) -> None:
        """It goes well, and nothing else catches what is missing."""
        done = self.migrate(KVM_USERFAULT)
        self.assertEqual(done.returncode, 0, done.stdout)
        report = json.loads(
            (self.output / 'report.json').read_text(encoding='utf-8'))
        print(summary(report))
        self.assertTrue(verdict(report).good, done.stdout)
        stamp.write(RESULTS / 'packaged.json', json.dumps(report, indent=1))


if __name__ == '__main__':
    unittest.main()
