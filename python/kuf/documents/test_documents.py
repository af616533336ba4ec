# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how documents are generated, with documents and sources made up.
"""

import json
from pathlib import Path
import tempfile
import unittest
from unittest import mock

from kuf.cli import Failure
from kuf.documents import (
    blocks,
    charts,
    files,
    links,
    messages,
    missing_page,
    postcopy,
    records,
    refusals,
    virsh,
)
from kuf.documents.sources import strings
from kuf.paths import TOP
from kuf.report.figures import postcopy_rate, time_lost
from kuf.virt import commands


SVG = '<svg><text x="1">{}</text><path d="{}"/></svg>'


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


class RecordsTest(unittest.TestCase):
    """What was measured."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_newest(self) -> None:
        """The last record that has it; others stay as they are."""
        old = records.Versions('2026-01-02', '10.0.1', '6.12.1')
        new = records.Versions('2026-02-01', '10.0.2', '6.12.1')
        records.keep(old, 'a', {'n': 1}, self.folder)
        records.keep(old, 'b', {'n': 2}, self.folder)
        path = records.keep(new, 'a', {'n': 3}, self.folder)
        self.assertEqual(path.name, '2026-02-01-10.0.2-6.12.1.json')
        self.assertEqual(records.newest('a', self.folder).data, {'n': 3})
        found = records.newest('b', self.folder)
        self.assertEqual((found.versions, found.data), (old, {'n': 2}))
        with self.assertRaisesRegex(Failure, "'c'; measure"):
            records.newest('c', self.folder)

    def test_same_versions(self) -> None:
        """Others are not added to."""
        theirs = records.Versions('2026-01-02', records.our_qemu(), '6.12.1')
        for versions, number in (
                (theirs, 1), (theirs._replace(date='2026-02-01'), 2)):
            records.keep(versions, 'a', {'n': number}, self.folder)
        self.assertEqual(records.same_versions('a', '6.12.1', self.folder),
                         {'n': 2})
        for name, linux in (('a', '6.12.2'), ('b', '6.12.1')):
            self.assertIsNone(
                records.same_versions(name, linux, self.folder))
        records.keep(records.Versions('2026-03-01', '9.0', '6.12.1'), 'a',
                     {'n': 3}, self.folder)
        self.assertIsNone(records.same_versions('a', '6.12.1', self.folder))

    def test_wrong(self) -> None:
        """Files that are no records."""
        path = self.folder / 'x.json'
        for text, why in (('{', 'not JSON'),
                          (json.dumps({'schema': 9}), 'schema 9')):
            path.write_text(text, encoding='utf-8')
            with self.assertRaisesRegex(Failure, why):
                records.newest('a', self.folder)
            # It would be written over.
            with self.assertRaisesRegex(Failure, why):
                records.same_versions('a', '6.12.1', self.folder)


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

    def test_virsh(self) -> None:
        virsh.check()
        with mock.patch.dict(commands.COMMANDS, {'new': 'virsh new guest'}):
            with self.assertRaisesRegex(Failure, "'virsh new guest' is not"):
                virsh.check()

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

    def test_links(self) -> None:
        """A link that leads nowhere is found, one to elsewhere is not ours."""
        with mock.patch.object(Path, 'read_text', return_value=(
                '[a](docs/demo.md#x) [b](https://example.org/) [c](#d)')):
            links.check(TOP / 'README.md')
        with mock.patch.object(Path, 'read_text',
                               return_value='[a](docs/none.md)'):
            with self.assertRaisesRegex(Failure, "'docs/none.md'"):
                links.check(TOP / 'README.md')

    def test_strings(self) -> None:
        """Strings that are broken are one."""
        self.assertEqual(strings('"a "\n    "b"'), '"a b"')


def measured_run(mode: str, **numbers: int) -> records.Data:
    """A run of bench/demand-paging, in two boots."""
    first = {'ns': 1000, 'pages': 10, 'exits': 0, 'voluntary': 3,
             'involuntary': 2, **numbers}
    return {'backing': 'anonymous', 'mode': mode, 'vcpus': 1,
            'numbers': [first, {**first, 'ns': first['ns'] * 2}]}


class DigestsTest(unittest.TestCase):
    """What is kept of measurements."""

    def test_missing_page(self) -> None:
        """Numbers a page, and how far two boots are apart."""
        kept = missing_page.digest({
            'megabytes': 1, 'vcpus': [1],
            'table': [measured_run('none'), measured_run('both', ns=500)],
            'plain': {'base': [measured_run('none')],
                      'patched': [measured_run('none', ns=1010)]},
            'hugetlb': [measured_run('userfaultfd', pages=1024),
                        measured_run('userfault', exits=10)],
            'calls': [{'mode': 'both', 'pages': 100, 'calls': {'ioctl': 200}}],
        })
        self.assertEqual([(run['instructions'], run['switches'])
                          for run in kept['runs']], [(100, 0.5), (50, 0.5)])
        self.assertEqual(kept['spread']['runs'], 2)
        self.assertEqual(kept['spread']['worst'][0]['percent'], 100)
        self.assertEqual(kept['calls'], {'both': {'ioctl': 2}})
        off = kept['flag-off']['runs'][0]
        self.assertEqual((off['difference'], off['percent']), (1, 1))
        self.assertEqual([(run['granule'], run['faults'], run['per_fault'])
                          for run in kept['hugetlb']],
                         [('2M', 2, 500), ('4K', 10, 100)])

    def test_postcopy(self) -> None:
        """Reports lose what figures are made of, and no figure."""
        report = records.newest('demo').data
        guest = {'name': 'a', 'title': 'b', 'report': report}
        kept = postcopy.digest([{'title': 's', 'guests': [guest]}], [], [],
                               '6.12')
        runs = report['runs']
        self.assertEqual((kept['migrations'], kept['failed']), (len(runs), 0))
        self.assertEqual(kept['userfaultfd_calls'],
                         {'userfaultfd': 1, 'kvm-userfault': 0})
        thin = kept['sweeps'][0]['guests'][0]['report']
        self.assertLess(len(json.dumps(thin)), len(json.dumps(report)) / 10)
        for old, new in zip(runs, thin['runs']):
            for figure in postcopy.FIGURES:
                if figure not in (postcopy.RATE, postcopy.LOST):
                    self.assertEqual(figure.find(old), figure.find(new))
            self.assertEqual(new['guest_rate'], postcopy_rate(old))
            self.assertEqual(new['guest_time_lost'], time_lost(old))


class ChartsTest(unittest.TestCase):
    """Plots."""

    def test_texts(self) -> None:
        """What is drawn is of no account, what is written is."""
        self.assertEqual(charts.texts(SVG.format('1.5', 'M 0 0')),
                         charts.texts(SVG.format('1.5', 'M 0 1')))
        self.assertNotEqual(charts.texts(SVG.format('1.5', 'M 0 0')),
                            charts.texts(SVG.format('1.6', 'M 0 0')))

    def test_values(self) -> None:
        """Each value is there as text."""
        plot = charts.Plot(
            [charts.Panel('title', [charts.Row('a', [0.5, None]),
                                    charts.Row('b', [2, 40])])],
            ['x', 'y'], 'share', 'where')
        said = charts.texts(charts.svg(plot))
        for text in ('title', 'a', 'b', 'x', 'y', '0.50  -', '2.00  40.00',
                     'where'):
            self.assertIn(text, said)


if __name__ == '__main__':
    unittest.main()
