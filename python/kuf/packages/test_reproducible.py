# SPDX-License-Identifier: GPL-2.0-or-later
"""
The packages of QEMU are the same bytes when they are made again, elsewhere and
with nothing of the first time.
"""

import unittest

from kuf.build import qemu_packages, stamp
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.paths import TOP


class ReproducibleTest(unittest.TestCase):
    """Built twice."""

    def test_same_bytes(self) -> None:
        """In another folder, without the compiler's cache."""
        project = Project(TOP)
        first = {path.name: stamp.checksum(path)
                 for path in qemu_packages.build(project)}
        folder = project.build / 'deb-again'
        self.addCleanup(stamp.remove, folder)
        log = Log(project.log('deb-again'))
        tree = qemu_packages.prepare(project, folder / 'elsewhere', log)
        qemu_packages.make(tree, 'elsewhere', log, CCACHE_DISABLE='1')
        qemu_packages.collect(tree, folder / 'deb')
        again = {path.name: stamp.checksum(path)
                 for path in (folder / 'deb').glob('*.deb')}
        self.assertEqual(again, first)


if __name__ == '__main__':
    unittest.main()
