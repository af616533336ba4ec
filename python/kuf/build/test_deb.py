# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the packages: they are the same whoever makes them, and good ones.
"""

import os
from pathlib import Path
import re
import subprocess
import tempfile
import unittest
from unittest import mock

from kuf.build import (
    deb,
    deb_kvm,
    kvm_module,
    stock_kernel,
)
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


PROJECT = Project(TOP)


def content(package: Path) -> str:
    """The names of its files."""
    return subprocess.run(['dpkg-deb', '-c', package], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


class KvmTest(unittest.TestCase):
    """kvm-userfault-dkms."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir=TOP / 'build')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_reproducible(self) -> None:
        """Two that are made in other places and ways have the same bytes."""
        first = deb_kvm.build(PROJECT, self.folder / 'first')
        mask = os.umask(0o077)
        self.addCleanup(os.umask, mask)
        with mock.patch.dict(os.environ, TZ='Asia/Kolkata', LC_ALL='C',
                             DEB_BUILD_OPTIONS='parallel=1', HOME='/'):
            second = deb_kvm.build(PROJECT, self.folder / 'second/deeper')
        self.assertEqual(first.name, second.name)
        self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_lintian(self) -> None:
        """Debian's own check has nothing to say."""
        package = deb_kvm.build(PROJECT)
        said = subprocess.run(
            ['lintian', '--allow-root', '--fail-on', 'error,warning', package],
            text=True, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.assertEqual((said.returncode, said.stdout), (0, ''))

    def test_content(self) -> None:
        """KVM is there, and nothing that only its repository needs."""
        names = content(deb_kvm.build(PROJECT))
        for name in ('Kbuild', 'dkms.conf', 'virt/kvm/userfault.c',
                     'arch/x86/kvm/svm/svm.c', 'arch/x86/kvm/vmx/vmx.c',
                     'include/uapi/linux/kvm.h'):
            self.assertRegex(names, rf'/usr/src/kvm-userfault-\S+/{name}\n')
        self.assertNotIn('/.git', names)
        self.assertNotIn('@', names)

    def test_release(self) -> None:
        """It is for one release, and its version begins with that."""
        release = stock_kernel.release(PROJECT)
        package = deb_kvm.build(PROJECT)
        self.assertTrue(package.name.startswith(
            f"kvm-userfault-dkms_{release.partition('+')[0]}+"))
        folder = self.folder / 'unpacked'
        subprocess.run(['dpkg-deb', '-x', package, folder], check=True)
        conf = next(folder.glob('usr/src/*/dkms.conf')).read_text('utf-8')
        match = re.search('^BUILD_EXCLUSIVE_KERNEL="(.*)"$', conf, re.M)
        assert match
        for kernel, takes in (('-amd64', True), ('-cloud-amd64', True),
                              ('-rt-amd64', False), ('.1-amd64', False),
                              ('-amd64-unsigned', False)):
            self.assertEqual(bool(re.search(match[1], release + kernel)),
                             takes, kernel)
        self.assertIsNone(re.search(match[1], '6.12.1+deb13-amd64'))

    def test_options(self) -> None:
        """An option of the series that Kbuild does not know is noticed."""
        kbuild = self.folder / 'Kbuild'
        text = (kvm_module.around(PROJECT) / 'Kbuild').read_text('utf-8')
        kbuild.write_text(text.replace('-DCONFIG_HAVE_KVM_USERFAULT_KERNEL=1',
                                       ''), encoding='utf-8')
        with mock.patch.object(kvm_module, 'around',
                               return_value=self.folder):
            with self.assertRaisesRegex(Failure, 'HAVE_KVM_USERFAULT_KERNEL'):
                kvm_module.lay(PROJECT, self.folder / 'new')


class ValuesTest(unittest.TestCase):
    """What stands for names in a package's files."""

    def test_unknown(self) -> None:
        """A name without a value is no text."""
        with tempfile.TemporaryDirectory() as name:
            project = Project(Path(name))
            folder = project.top / 'debian/x'
            folder.mkdir(parents=True)
            (folder / 'control').write_text('Source: x\nVersion: @WHICH@\n',
                                            encoding='utf-8')
            with self.assertRaisesRegex(Failure, '@WHICH@; there are: VERSION'):
                deb.make(project, 'x', {'VERSION': '1'}, '',
                         lambda new: new.mkdir())

    def test_no_repository(self) -> None:
        """When was that changed?"""
        with tempfile.TemporaryDirectory() as name:
            with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH=''):
                with self.assertRaisesRegex(Failure, 'SOURCE_DATE_EPOCH'):
                    deb.epoch(Project(Path(name)))


if __name__ == '__main__':
    unittest.main()
