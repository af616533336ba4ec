# SPDX-License-Identifier: GPL-2.0-or-later
"""
libvirt starts the packaged QEMU as a domain's <emulator>, confined by AppArmor,
and migrates it, on Debian's kernel with the packaged KVM.
"""

import unittest

from kuf.build import installed
from kuf.packages import host
from kuf.paths import TOP


class LibvirtTest(unittest.TestCase):
    """Two hosts in the emulated host."""

    def test_plain(self) -> None:
        """By what host/libvirt does."""
        done = host.migrate(TOP / 'host/libvirt', '--debian', installed.NAME,
                            '--', 'plain', timeout=1700)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r'(?m)^ok 1 - plain: kvm-userfault, '
                                      r'vcpu faults [1-9]')


if __name__ == '__main__':
    unittest.main()
