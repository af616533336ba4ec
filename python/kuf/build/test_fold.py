# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the series with the overlay in it, and of its mails.
"""

from pathlib import Path
from typing import Dict, List
import unittest

from kuf.build.fold import added_lines, references
from kuf.build.testing import ProjectTest


KNOWN = {
    'include/system/view.h', 'migration/gate.c', 'migration/gate.h',
    'target/i386/kvm/nested.h', 'tests/qtest/migration/util.h',
    'tests/unit/test-gate.c', 'tests/functional/test_x86_64_gate.py',
    'docs/system/page.rst',
}


class ReferencesTest(unittest.TestCase):
    """Who names whom."""

    def check(self, path: str, text: str, *wanted: str) -> None:
        """What a text at PATH names."""
        self.assertEqual(references(path, text, KNOWN), set(wanted))

    def test_includes(self) -> None:
        self.check('system/memory.c', '#include "system/view.h"',
                   'include/system/view.h')
        self.check('migration/ram.c', '  # include "gate.h"',
                   'migration/gate.h')
        self.check('tests/unit/x.c', '#include "../../migration/gate.h"',
                   'migration/gate.h')
        self.check('system/memory.c', '#include "gate.h"')

    def test_folder_of_the_meson_build(self) -> None:
        self.check('target/i386/machine.c', '#include "kvm/nested.h"',
                   'target/i386/kvm/nested.h')
        self.check('tests/qtest/migration/x.c', '#include "migration/util.h"',
                   'tests/qtest/migration/util.h')

    def test_meson(self) -> None:
        self.check('migration/meson.build', "  'gate.c',", 'migration/gate.c')
        self.check('tests/unit/meson.build',
                   "'test-gate': ['../../migration/gate.c'],",
                   'tests/unit/test-gate.c', 'migration/gate.c')
        self.check('tests/functional/meson.build', "  'x86_64_gate',",
                   'tests/functional/test_x86_64_gate.py')
        self.check('system/meson.build', "'gate.c'")

    def test_table_of_contents(self) -> None:
        self.check('docs/system/index.rst', '   page', 'docs/system/page.rst')
        self.check('docs/system/index.rst', 'See the page')

    def test_added_lines_only(self) -> None:
        added = added_lines('--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-old\n+new\n'
                            '--- a/y.c\n+++ b/y.c\n@@ -1 +1 @@\n+++ more\n')
        self.assertEqual(added['x.c'], 'new')


def files_of(mails: List[Path]) -> Dict[str, List[str]]:
    """The files that each mail adds."""
    return {mail.name: [line.rsplit(' ', 1)[-1] for line in
                        mail.read_text(encoding='utf-8').splitlines()
                        if line.startswith(' create mode ')]
            for mail in mails}


# What it configures notes which files there are each time that it builds.
CONFIGURE = """#!/bin/sh
source=$(dirname "$0")
cat >build.ninja <<END
rule list
 command = ls $source/migration | xargs >>seen; ! grep BROKEN $source/other.c
build qemu-system-x86_64: list
build tests/qtest/migration-test: phony
END
"""


class MailTest(ProjectTest):
    """Mails of a series that uses an overlay."""

    OVERLAY = {
        'migration/first.c': '#include "migration/shared.h"\n',
        'migration/second.c': '#include "migration/shared.h"\n',
        'migration/second.h': '',
        'include/migration/shared.h': '',
    }

    def setUp(self) -> None:
        super().setUp()
        for name, text in self.OVERLAY.items():
            self.write(self.top / name, text)
        self.write(self.qemu / 'configure', CONFIGURE)
        self.configure()
        self.change_hello('two', 'hello: use nothing')
        self.commit('migration/meson.build', "files(\n  'first.c',\n)\n",
                    'migration: use the first')
        self.commit('migration/meson.build',
                    "files(\n  'first.c',\n  'second.c',\n)\n",
                    'migration: use the second')
        self.commit('other.c', '#include "migration/second.h"\n',
                    'other: include')
        self.run_script('scripts/patches', 'export')

    def mails(self, part: str) -> List[Path]:
        """The mails of a part."""
        folder = self.top / 'build/mail/qemu' / part
        return sorted(folder.iterdir())

    def cover(self, name: str, first: str) -> None:
        """Write a cover letter."""
        self.write(self.top / f'patches/{name}.cover',
                   f'First: {first}\nSubject: about {name}\n\nWhy.\nAnd how.\n')

    def test_file_is_where_it_is_used_first(self) -> None:
        self.run_script('scripts/patches', 'mail', 'qemu')
        self.assertEqual(list(files_of(self.mails('series')).values()), [
            [],
            ['include/migration/shared.h', 'migration/first.c'],
            ['migration/second.c'],
            ['migration/second.h']])

    def test_am_gives_the_prepared_tree(self) -> None:
        self.run_script('scripts/patches', 'mail')
        clean = self.folder / 'clean'
        self.git('worktree', 'add', '-q', '--detach', str(clean), 'base')
        applied = self.tree
        self.tree = clean
        self.git('am', '-q', *map(str, self.mails('series')))
        names = set(self.git('ls-files').splitlines())
        self.tree = applied
        self.assertEqual(names, {*self.git('ls-files').splitlines(),
                                 *self.OVERLAY})
        for name in names:
            self.assertEqual((clean / name).read_bytes(),
                             (applied / name).read_bytes(), name)

    def test_file_that_no_patch_uses(self) -> None:
        self.write(self.top / 'migration/unused.c', '')
        for verb in ('mail', 'check'):
            self.assertIn("no patch in patches uses 'migration/unused.c'",
                          self.run_script('scripts/patches', verb, fails=True))

    def test_check_proves_it(self) -> None:
        self.assertIn('4 patches, as they are mailed, give the prepared tree',
                      self.run_script('scripts/patches', 'check',
                                      '--no-build'))

    def test_each_is_built_with_the_files_that_it_brings(self) -> None:
        self.run_script('scripts/patches', 'check')
        seen = (self.top / 'build/check/qemu/seen').read_text(encoding='utf-8')
        self.assertEqual(seen.splitlines(), [
            'meson.build',
            'first.c meson.build',
            'first.c meson.build second.c',
            'first.c meson.build second.c second.h'])

    def test_one_that_does_not_build(self) -> None:
        self.commit('other.c', 'BROKEN\n', 'other: break')
        self.run_script('scripts/patches', 'export')
        self.assertIn("QEMU does not build with 'other: break' as the last "
                      'patch', self.run_script('scripts/patches', 'check',
                                               fails=True))

    def test_parts(self) -> None:
        self.cover('part-1', 'hello: use nothing')
        self.cover('part-2', 'migration: use the second')
        self.run_script('scripts/patches', 'mail')
        letter, *first = self.mails('part-1')
        self.assertEqual(len(first), 2)
        self.assertEqual(len(self.mails('part-2')), 3)
        text = letter.read_text(encoding='utf-8')
        self.assertIn('From: A <a@b>\n', text)
        self.assertIn('Subject: [PATCH 0/2] about part-1\n', text)
        self.assertIn('\n\nWhy.\nAnd how.\n\n', text)
        before = [mail.read_bytes() for mail in self.mails('part-2')]
        self.run_script('scripts/patches', 'mail')
        self.assertEqual(before,
                         [mail.read_bytes() for mail in self.mails('part-2')])

    def test_part_that_begins_nowhere(self) -> None:
        self.cover('part-1', 'no such patch')
        self.assertIn("correct its line 'First:'",
                      self.run_script('scripts/patches', 'check',
                                      '--no-build', fails=True))

    def test_patches_before_the_first_part(self) -> None:
        self.cover('part-1', 'migration: use the first')
        self.assertIn('patches that no cover letter',
                      self.run_script('scripts/patches', 'mail', fails=True))
