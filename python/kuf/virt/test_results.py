# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what is kept of migrations by libvirt.
"""

from pathlib import Path
import tempfile
import unittest

from kuf.cli import Failure
from kuf.virt import results


class ResultsTest(unittest.TestCase):
    """Files of several hosts."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / 'libvirt'

    def test_all_together(self) -> None:
        """Each host has a file, that grows while it runs."""
        for name in ('1', '2'):
            runs: results.Runs = {}
            for failed in (False, True, False):
                results.count(runs, 'libvirt 9.0.0', 'plain', failed)
                results.keep(self.folder / f'{name}.json', runs)
            results.count(runs, f'libvirt {name}', 'cancel', False)
            results.keep(self.folder / f'{name}.json', runs)
        files = results.load(self.folder)
        self.assertEqual(list(files), ['1', '2'])
        self.assertEqual(results.total(files.values()), {
            'libvirt 9.0.0': {'plain': [6, 2]},
            'libvirt 1': {'cancel': [1, 0]},
            'libvirt 2': {'cancel': [1, 0]}})

    def test_nothing(self) -> None:
        with self.assertRaisesRegex(Failure, 'run host/libvirt'):
            results.load(self.folder)
