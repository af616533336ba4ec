# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the packages of QEMU are made of, on a stand-in for QEMU.
"""

import shutil
import unittest

from kuf.build import deb, qemu_packages
from kuf.build.project import Project
from kuf.build.qemu_packages import PACKAGE, build_depends
from kuf.build.testing import ProjectTest
from kuf.build.tree import Tree
from kuf.paths import TOP


CONTROL = '''\
# Of the package.
Source: qemu
Build-Depends: debhelper-compat (= 13),
# Needed.
 flex, bison,
Build-Depends-Arch:
# --enable-linux-aio
 libaio-dev [linux-any],
#Build-Depends-Old: no
 zlib1g-dev,
Build-Depends-Indep: gcc-alpha-linux-gnu
Homepage: http://www.qemu.org/

Package: qemu-system-x86
Build-Depends: none
'''


class ControlTest(unittest.TestCase):
    """What is taken from Debian's QEMU."""

    def test_build_depends(self) -> None:
        """What this architecture needs, and no comment."""
        self.assertEqual(
            build_depends(CONTROL),
            'debhelper-compat (= 13),\n flex, bison,\n '
            'libaio-dev [linux-any],\n zlib1g-dev,')


class SourceTest(ProjectTest):
    """The source package."""

    def setUp(self) -> None:
        super().setUp()
        for name, text in (('debian/control', CONTROL),
                           ('debian/copyright', 'Theirs\n')):
            self.write(self.qemu / name, text)
        shutil.copytree(deb.packaging(Project(TOP), PACKAGE),
                        deb.packaging(Project(self.top), PACKAGE))
        self.write(self.top / 'migration/new.c', 'new\n')
        self.configure()
        self.change_hello('two')
        self.project = Project(self.top)
        self.qemu_tree = Tree(self.project, 'qemu')

    def test_source(self) -> None:
        """The fork's QEMU with its own files, and our packaging."""
        folder = self.folder / 'source'
        qemu_packages.write_source(
            self.project, self.qemu_tree,
            deb.Version('10.0.99', 1000000000, False), folder)
        self.assertIn('TWO', (folder / 'qemu/hello.c').read_text('utf-8'))
        new = folder / 'qemu/migration/new.c'
        self.assertFalse(new.is_symlink())
        self.assertEqual(new.read_text('utf-8'), 'new\n')
        self.assertFalse((folder / 'qemu/.git').exists())
        control = (folder / 'debian/control').read_text('utf-8')
        self.assertIn('\nBuild-Depends: debhelper-compat (= 13),\n flex,',
                      control)
        self.assertIn('qemu-system-data (>= 1:10.0.99~)', control)
        self.assertIn('kvm-userfault (10.0.99+20010909.014640) ',
                      (folder / 'debian/changelog').read_text('utf-8'))
        self.assertEqual((folder / 'debian/copyright').read_text('utf-8'),
                         'Theirs\n')

    def test_work(self) -> None:
        """Commits that the repository has not are packaged by nobody."""
        said = self.run_script('scripts/build', 'deb-qemu', fails=True)
        self.assertIn('build/src/qemu has commits that patches does not', said)


if __name__ == '__main__':
    unittest.main()
