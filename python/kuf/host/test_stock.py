# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's stock kernel in the emulated host.
"""

import subprocess
import unittest

from kuf.build import stock_kernel
from kuf.paths import TOP


class ModulesTest(unittest.TestCase):
    """They are modules of Debian's, or of ours."""

    def test_wanted_later(self) -> None:
        """What the kernel wants is loaded, also in a namespace."""
        done = subprocess.run(
            [TOP / 'host/run', '--kernel', stock_kernel.PATCHED,
             '--smp', '1', '--timeout', '250', '--', 'sh', '-ec',
             'ip link add type dummy; unshare -n ip link add type veth; lsmod'],
            text=True, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, 0, done.stdout)
        for name in ('dummy', 'veth', 'kvm_amd'):
            self.assertRegex(done.stdout, rf'(?m)^{name}\s')


if __name__ == '__main__':
    unittest.main()
