# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the files in base/, and of what comes by them.
"""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
import tempfile
from typing import List
import unittest
from unittest import mock

from kuf.build import base, debian, stamp
from kuf.build.base import Base
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


TEXT = '''\
# A comment.
package  thing
kind     tarball
version  1.2.3
newer    1.2.*
suite    one two
sha256   1.2.3-1 {}
'''


class Mirror:
    """An apt of which each version is newer or not."""

    def __init__(self, *versions: str) -> None:
        self.versions = list(versions)
        self.asked: List[str] = []

    def locate(self, _package: str, _kind: str, pattern: str,
               _suites: List[str], _than: str = '') -> str:
        """The first one, if that pattern is asked for."""
        self.asked.append(pattern)
        return self.versions.pop(0)

    def download(self, _package: str, _kind: str, version: str,
                 folder: Path) -> None:
        """Something."""
        (folder / 'thing.orig.tar.xz').write_text(version, encoding='ascii')


class BaseTest(unittest.TestCase):
    """A base of our own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.project = Project(Path(folder.name))
        (self.project.top / 'base').mkdir()
        self.base = self.write(TEXT.format(stamp.checksum('1.2.3-1')))

        self.enterContext(redirect_stdout(StringIO()))

    def write(self, text: str) -> Base:
        """base/thing"""
        path = self.project.top / 'base/thing'
        path.write_text(text, encoding='utf-8')
        return Base(self.project, 'thing')

    def test_which_versions_fit(self) -> None:
        self.assertTrue(self.base.is_wanted('1.2.3'))
        self.assertFalse(self.base.is_wanted('1.2.30'))
        self.assertTrue(self.base.is_of_line('1.2.30'))
        self.assertFalse(self.base.is_of_line('1.3.0'))

    def test_without_newer_ones(self) -> None:
        self.assertEqual(self.write('version 6.*\n').line, '6.*')

    def test_newer_one_is_second_choice(self) -> None:
        mirror = Mirror('', '1.2.4-1')
        self.assertEqual(
            self.base.locate(mirror, 'thing', 'source', []),  # type: ignore
            '1.2.4-1')
        self.assertEqual(mirror.asked, ['1.2.3', '1.2.*'])

    def test_fetched_once(self) -> None:
        mirror = Mirror('1.2.3-1')
        for _ in range(2):
            self.assertEqual(self.base.fetch(mirror),  # type: ignore
                             '1.2.3-1')

    def test_checksum(self) -> None:
        self.base.fetch(Mirror('1.2.3-1'))  # type: ignore
        log = Log(self.project.build / 'log')
        with mock.patch.object(base, 'untar') as untar:
            self.base.unpack(log, '1:1.2.3-1', self.project.build / 'new')
            untar.assert_called_once()
            (self.base.files / 'thing.orig.tar.xz').write_text(
                'other', encoding='ascii')
            with self.assertRaisesRegex(Failure, 'does not have the checksum'):
                self.base.unpack(log, '1.2.3-1', self.project.build / 'new')
            untar.assert_called_once()

    def test_all_of_ours(self) -> None:
        """Each has what each must have."""
        for path in (TOP / 'base').iterdir():
            # The others list packages.
            if path.name not in ('packages', *debian.DEBIANS):
                ours = Base(Project(TOP), path.name)
                for key in ('package', 'kind', 'version', 'suite'):
                    self.assertTrue(ours.value(key), (path, key))
