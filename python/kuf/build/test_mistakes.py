# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the mistakes that are put into QEMU.
"""

from pathlib import Path
import unittest

from kuf.build.mistakes import MISTAKES, Mistake, put_in
from kuf.cli import Failure
from kuf.paths import SOURCES


class MistakesTest(unittest.TestCase):
    """QEMU still has what is to be wrong."""

    def test_all_can_be_made(self) -> None:
        for name, mistake in MISTAKES.items():
            with self.subTest(name):
                text = Path(SOURCES, 'qemu', mistake.source).read_text('utf-8')
                self.assertFalse(put_in(text, mistake) == text)

    def test_code_has_changed(self) -> None:
        mistake = Mistake('what', 'a.c', 'right();', 'wrong();')
        for text in ('', 'right(); right();'):
            with self.assertRaisesRegex(Failure, r'a\.c .*once: right'):
                put_in(text, mistake)
