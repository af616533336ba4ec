# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest is migrated from one packaged QEMU to another, in a Debian 13 on its own
kernel with the packaged KVM, by an ordinary user to whom that gives no
userfaultfd.
"""

import json
import os
import shutil
import subprocess
from typing import List
import unittest

from kuf.build import stamp
from kuf.build.install import PROGRAM
from kuf.modes import KVM_USERFAULT, USERFAULTFD
from kuf.packages import host
from kuf.paths import RESULTS, TOP
from kuf.process import Word
from kuf.report.figures import verdict
from kuf.report.screen import summary


# What only root can change, and the demonstration wants: huge pages are for who
# asks for them.
PREPARE = 'echo madvise >/sys/kernel/mm/transparent_hugepage/enabled; '


class PostcopyTest(unittest.TestCase):
    """By the demonstration's guest, which checks all that it reads."""

    def setUp(self) -> None:
        self.output = RESULTS / f'packaged-{os.getpid()}'
        self.addCleanup(shutil.rmtree, self.output, ignore_errors=True)
        (self.output / 'logs').mkdir(parents=True)
        # The user there is another one than here.
        for folder in (self.output, self.output / 'logs'):
            folder.chmod(0o777)

    def migrate(self, *modes: str,
                user: bool = True) -> 'subprocess.CompletedProcess[str]':
        """By that user, or by root."""
        as_user: List[Word] = []
        if user:
            as_user = ['sh', '-c', f'{PREPARE}exec "$@"', 'sh',
                       TOP / 'host/as-user']
        return host.migrate(
            *as_user, TOP / 'demo/run', '--inside', '--modes', ','.join(modes),
            '--qemu', f'/usr/bin/{PROGRAM}', '--output', self.output)

    def check(self, done: 'subprocess.CompletedProcess[str]') -> str:
        """All went well; returns the report."""
        self.assertEqual(done.returncode, 0, done.stdout)
        text = (self.output / 'report.json').read_text(encoding='utf-8')
        report = json.loads(text)
        print(summary(report))
        self.assertTrue(verdict(report).good, done.stdout)
        return text

    def test_userfaultfd(self) -> None:
        """That user gets none: the destination says so."""
        done = self.migrate(USERFAULTFD)
        self.assertRegex(done.stdout, 'userfaultfd, round 1, failed in .*'
                                      '[Uu]serfaultfd')

    def test_kvm_userfault(self) -> None:
        """It goes well, and nothing else catches what is missing."""
        stamp.write(RESULTS / 'packaged.json',
                    self.check(self.migrate(KVM_USERFAULT)))

    def test_demonstration(self) -> None:
        """Root has both ways."""
        self.check(self.migrate(USERFAULTFD, KVM_USERFAULT, user=False))


if __name__ == '__main__':
    unittest.main()
