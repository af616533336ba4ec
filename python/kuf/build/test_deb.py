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


class ProjectTest(unittest.TestCase):
    """A project with one package."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.project = Project(Path(folder.name))
        self.write('debian/x/control', 'Source: s\nMaintainer: M <m@x>\n')
        self.write('series/0001', 'one\n')

    def write(self, name: str, text: str) -> None:
        """One of its files."""
        path = self.project.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

    def git(self, *args: str) -> None:
        """In the project, at a time of its own."""
        subprocess.run(
            ['git', '-C', str(self.project.top), *args], check=True,
            stdout=subprocess.DEVNULL,
            env=dict(os.environ, GIT_CONFIG_GLOBAL='/dev/null',
                     GIT_AUTHOR_NAME='A', GIT_AUTHOR_EMAIL='a@b',
                     GIT_COMMITTER_NAME='C', GIT_COMMITTER_EMAIL='c@d',
                     GIT_COMMITTER_DATE='@1000000000 +2'))

    def version(self) -> str:
        """Of the package now."""
        return str(deb.version(self.project, 'x', '10.0', 'series'))

    def lay(self) -> str:
        """Its packaging, of which the changelog is returned."""
        new = self.project.top / 'new'
        deb.lay(self.project, 'x', deb.Version('10.0', 1000000000, False),
                'What it is.', new, OTHER='value')
        return (new / 'debian/changelog').read_text(encoding='utf-8')


class VersionTest(ProjectTest):
    """What it is called."""

    def test_commits(self) -> None:
        """It is of the last commit that matters, and tells of edits."""
        self.git('init', '-q')
        self.git('add', '-A')
        self.git('commit', '-q', '-m', 'all')
        self.assertEqual(self.version(), '10.0+20010909.014640')
        self.write('README.md', 'other\n')
        self.assertEqual(self.version(), '10.0+20010909.014640')
        for name in ('series/0001', 'debian/x/new'):
            self.write(name, 'two\n')
            self.assertEqual(self.version(), '10.0+20010909.014640+local')
            self.git('add', '-A')
            self.git('commit', '-q', '-m', 'more')

    def test_given(self) -> None:
        """Whoever says when that was needs no commits."""
        with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH='1000000000'):
            self.assertEqual(self.version(), '10.0+20010909.014640')

    def test_no_repository(self) -> None:
        """When was that changed?"""
        with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH=''):
            with self.assertRaisesRegex(Failure, 'set SOURCE_DATE_EPOCH'):
                self.version()


class ValuesTest(ProjectTest):
    """What stands for names in a package's files."""

    def test_changelog(self) -> None:
        """It has the version, who made it, and when."""
        self.assertEqual(
            self.lay(), 's (10.0+20010909.014640) UNRELEASED; urgency=medium\n'
            '\n  * What it is.\n\n'
            ' -- M <m@x>  Sun, 09 Sep 2001 01:46:40 +0000\n')

    def test_filled_in(self) -> None:
        """In each of its files."""
        self.write('debian/x/sub/rules', 'v=@VERSION@ o=@OTHER@ @{other} @\n')
        self.lay()
        self.assertEqual(
            (self.project.top / 'new/debian/sub/rules').read_text('utf-8'),
            'v=10.0+20010909.014640 o=value @{other} @\n')

    def test_unknown(self) -> None:
        """A name without a value is no text."""
        self.write('debian/x/rules', 'Version: @WHICH_ONE@\n')
        with self.assertRaisesRegex(
                Failure, 'debian/x asks for @WHICH_ONE@; there are: VERSION'):
            self.lay()


if __name__ == '__main__':
    unittest.main()
