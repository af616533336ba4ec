# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how documents are generated, with documents and sources made up.
"""

from pathlib import Path
import unittest
from unittest import mock

from kuf.cli import Failure
from kuf.documents import (
    blocks,
    files,
    messages,
    refusals,
)
from kuf.documents.sources import strings


class BlocksTest(unittest.TestCase):
    """Generated parts."""

    def fill(self, text: str) -> str:
        """A document, of which two parts are known."""
        return blocks.fill(text, {'one': lambda: 'new\n| table |\n',
                                  'long': lambda: 'word ' * 40}, 'page')

    def test_fill(self) -> None:
        """Only what is between the marks changes, and only once."""
        text = 'a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n'
        new = self.fill(text)
        self.assertEqual(new, 'a\n<!-- generated: one -->\n\nnew\n| table |\n\n'
                         '<!-- end -->\nb\n')
        self.assertEqual(self.fill(new), new)

    def test_indented(self) -> None:
        """In reStructuredText, as deep as its mark."""
        self.assertEqual(
            self.fill('  .. generated: one\n\n  .. end\n'),
            '  .. generated: one\n\n  new\n  | table |\n\n  .. end\n')

    def test_wrapped(self) -> None:
        """Prose has lines."""
        text = self.fill('<!-- generated: long -->\n<!-- end -->\n')
        self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_wrong(self) -> None:
        """Marks without a name that is known, or without an end."""
        with self.assertRaisesRegex(Failure, "generates 'two'.*one"):
            self.fill('<!-- generated: two -->\n<!-- end -->\n')
        with self.assertRaisesRegex(Failure, 'no end'):
            self.fill('<!-- generated: one -->\ntext\n')


class RefusalsTest(unittest.TestCase):
    """The source decides what is refused."""

    def test_reasons(self) -> None:
        """Of both forms of a macro."""
        self.assertEqual(refusals.reasons(
            '#define RAM_BYPASS_A "it does"\n'
            '#define RAM_BYPASS_B "it " \\\n'
            '                     "doesn\'t"\n'),
            {'RAM_BYPASS_A': 'it does', 'RAM_BYPASS_B': "it doesn't"})

    def test_found(self) -> None:
        """Classes, registrations with a reason, with words, with neither."""
        for text, found in (
                ('ram_bypass_set_class(klass, RAM_BYPASS_X);',
                 ['RAM_BYPASS_X']),
                ('.why = "it must"\n"n\'t",', ["it mustn't"]),
                ('ram_bypass_refuse(errp, "RDMA", "it writes", NULL)',
                 ['it writes']),
                ('ram_bypass_register(&bypass, errp)',
                 ['RAM_BYPASS_UNGUARDED']),
                ('nothing', [])):
            self.assertEqual([reason for _, reason in
                              refusals.refused_by('a.c', text)], found)

    def test_check(self) -> None:
        """A refusal without a name, and a name without a refusal."""
        one = refusals.Refusal('a.c', 'RAM_BYPASS_X', 'a', 'remove it')
        with mock.patch.object(refusals, 'REFUSALS', [one]):
            refusals.check([('a.c', 'RAM_BYPASS_X')])
            with self.assertRaisesRegex(Failure, 'b.c refuses something'):
                refusals.check([('a.c', 'RAM_BYPASS_X'), ('b.c', 'it does')])
            with self.assertRaisesRegex(Failure, "a.c does not refuse 'a'"):
                refusals.check([])


class PagesTest(unittest.TestCase):
    """QEMU's manual says what is so."""

    def test_messages(self) -> None:
        """What no message of QEMU's has is found."""
        messages.check()
        with mock.patch.object(messages, 'quoted', return_value=iter(
                ['this is what QEMU never says: …'])):
            with self.assertRaisesRegex(Failure, 'this is what QEMU never'):
                messages.check()

    def test_pieces(self) -> None:
        """What is filled in is left out."""
        self.assertEqual(list(messages.pieces(
            "block … is not a multiple: 'x' is wrong; correct the size")),
            ['is not a multiple', 'correct the size'])

    def test_files(self) -> None:
        """A file that the page does not name is found."""
        files.check()
        with mock.patch.object(Path, 'read_text', return_value='nothing'):
            with self.assertRaisesRegex(Failure, 'what .* is for'):
                files.check()

    def test_strings(self) -> None:
        """Strings that are broken are one."""
        self.assertEqual(strings('"a "\n    "b"'), '"a b"')


if __name__ == '__main__':
    unittest.main()
