# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of scripts/patches: the series as commits and as files.
"""

import shutil
import unittest

from kuf.build.testing import FAKE_QEMU, ProjectTest


class PatchesTest(ProjectTest):
    """The series, as commits and as files."""

    def setUp(self) -> None:
        super().setUp()
        self.configure()

    def export(self) -> str:
        """make export-patches"""
        return self.run_script('scripts/patches', 'export')

    def check(self, fails: bool = False) -> str:
        """make check-patches, but for building"""
        return self.run_script('scripts/patches', 'check', '--no-build',
                               fails=fails)

    def test_export_is_stable(self) -> None:
        self.change_hello('two')
        self.assertIn('written', self.export())
        first = [path.read_bytes() for path in self.patches()]
        self.assertEqual(len(first), 1)
        self.assertEqual(self.configure(), '')
        self.assertNotIn('written', self.export())
        # From the files to commits and back: other commits, same files.
        shutil.rmtree(self.top / 'build/src')
        self.configure()
        self.assertIn('TWO',
                      (self.tree / 'hello.c').read_text(encoding='utf-8'))
        self.assertNotIn('written', self.export())
        self.assertEqual(first, [p.read_bytes() for p in self.patches()])
        self.check()

    def test_changed_patch_is_noticed(self) -> None:
        self.change_hello('two')
        self.commit('other.c', 'changed\n', 'other: change')
        self.export()
        before = (self.tree / 'hello.c').stat().st_mtime_ns
        patch = self.patches()[1]
        patch.write_text(patch.read_text(encoding='utf-8')
                         .replace('+changed', '+changed more'),
                         encoding='utf-8')
        self.configure()
        self.assertEqual((self.tree / 'other.c').read_text(encoding='utf-8'),
                         'changed more\n')
        self.assertEqual(before, (self.tree / 'hello.c').stat().st_mtime_ns)
        patch.unlink()
        self.configure()
        self.assertEqual((self.tree / 'other.c').read_text(encoding='utf-8'),
                         'other\n')

    def test_broken_patch(self) -> None:
        self.change_hello('two')
        self.change_hello('eight', 'hello: change more')
        self.export()
        good = self.patches()[1].read_bytes()
        self.patches()[1].write_bytes(good.replace(b'\n nine', b'\n ninety'))
        for printed in (self.configure(fails=True), self.check(fails=True)):
            self.assertIn(self.patches()[1].name, printed)
            self.assertIn('does not apply', printed)
        # What was there is still there, and the way back is short.
        self.assertIn('EIGHT',
                      (self.tree / 'hello.c').read_text(encoding='utf-8'))
        self.patches()[1].write_bytes(good)
        self.configure()
        self.check()

    def test_no_fuzz(self) -> None:
        self.change_hello('five')
        self.export()
        path = self.patches()[0]
        path.write_bytes(path.read_bytes().replace(b'\n two', b'\n 2'))
        self.assertIn('does not apply', self.configure(fails=True))

    def test_hunks_are_named_as_in_the_base(self) -> None:
        """Git names hunks by the base's .gitattributes, in export and check."""
        self.commit('label.c', FAKE_QEMU['label.c'] + '/* f */\n', 'label: end')
        self.export()
        self.assertIn(b' @@ int f(void)', self.patches()[0].read_bytes())
        self.check()

    def test_export_writes_its_own_form(self) -> None:
        self.change_hello('two')
        self.export()
        path = self.patches()[0]
        path.write_bytes(path.read_bytes() + b'-- \n2.0\n')
        self.configure()
        self.assertIn("is not as 'make export-patches' writes it",
                      self.check(fails=True))

    def test_commits_are_not_lost(self) -> None:
        self.change_hello('two')
        self.export()
        self.change_hello('four', 'hello: not exported')
        (self.patches()[0]).unlink()
        self.assertIn('has commits that patches does not',
                      self.configure(fails=True))
        self.assertIn('has commits', self.check(fails=True))

    def test_killed_before_the_stamp(self) -> None:
        self.change_hello('two')
        self.export()
        shutil.rmtree(self.top / 'build/src')
        self.configure()
        self.git('tag', '-f', 'applied', 'base')
        (self.tree / '.git/series.inputs').unlink()
        self.configure()
        self.check()

    def test_edits_are_not_lost(self) -> None:
        self.write(self.tree / 'hello.c', 'edited\n')
        self.write(self.qemu / 'VERSION', '10.0.100\n')
        self.assertIn('uncommitted edits', self.configure(fails=True))
        self.assertIn('not committed',
                      self.run_script('scripts/patches', 'export',
                                      fails=True))
        self.assertEqual((self.tree / 'hello.c').read_text(encoding='utf-8'),
                         'edited\n')

    def test_stale_base(self) -> None:
        self.write(self.qemu / 'VERSION', '10.0.100\n')
        printed = self.check(fails=True)
        self.assertIn('10.0.99', printed)
        self.assertIn('run ./configure', printed)

    def test_stale_base_file(self) -> None:
        self.write(self.top / 'build/config.options', "host=no\n")
        self.assertIn('base/qemu asks for', self.check(fails=True))

    def test_checkpatch(self) -> None:
        self.commit('other.c', 'UGLY\n', 'other: ugly')
        self.export()
        self.assertIn('checkpatch has something to say about patches/0001',
                      self.check(fails=True))

    def test_checkpatch_of_overlay(self) -> None:
        self.write(self.top / 'migration/new.c', 'UGLY\n')
        self.configure()
        self.assertIn('checkpatch has something to say about migration/new.c',
                      self.check(fails=True))


if __name__ == '__main__':
    unittest.main(verbosity=2)
