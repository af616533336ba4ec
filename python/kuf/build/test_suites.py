# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how suites are run and counted, on a stand-in for meson.
"""

import json
from pathlib import Path
import tempfile
import unittest

from kuf.build import suites
from kuf.build.project import Project
from kuf.cli import Failure


MESON = '''#!/bin/sh
case " $* " in
*' --list '*)
    echo 'ninja: no work to do.'
    echo 'project:qtest / migration/plain'
    echo 'project:qtest+slow / other'
    ;;
*)
    printf '%s\\n' "$@" >"{0}/asked"
    cp "{0}/results" "{0}/build/meson-logs/testlog-full.json"
    ;;
esac
'''


class SuitesTest(unittest.TestCase):
    """A project with two tests."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        for name in ('meson-info', 'meson-logs', 'tools/bin'):
            (self.top / 'build' / name).mkdir(parents=True)
        meson = self.top / 'build/tools/bin/meson'
        meson.write_text(MESON.format(self.top), encoding='utf-8')
        meson.chmod(0o755)
        self.tell('tests', [
            {'name': 'migration/plain', 'depends': ['qemu', 'kernel']},
            {'name': 'other', 'depends': ['kernel']},
            {'name': 'not asked for', 'depends': ['bochs']}])
        self.tell('targets', [
            {'id': name, 'filename': [f'{self.top}/build/{name}.always']}
            for name in ('qemu', 'kernel', 'bochs')])

    def tell(self, what: str, value: object) -> None:
        """What meson knows."""
        path = self.top / f'build/meson-info/intro-{what}.json'
        path.write_text(json.dumps(value), encoding='utf-8')

    def write_ninja(self, command: str) -> None:
        """How everything is built."""
        rules = ''.join(f'build {name}.always: make\n'
                        for name in ('qemu', 'kernel', 'bochs'))
        (self.top / 'build/build.ninja').write_text(
            f'rule make\n command = {command}\n{rules}', encoding='utf-8')

    def test_what_tests_need_is_built(self) -> None:
        (self.top / 'results').write_text(
            '{"name": "a", "result": "OK"}\n{"name": "b", "result": "SKIP"}\n',
            encoding='utf-8')
        self.write_ninja('touch $out')
        results = suites.run(Project(self.top), ['--suite', 'qtest'])
        self.assertEqual([test['result'] for test in results], ['OK', 'SKIP'])
        self.assertEqual(
            {path.name for path in (self.top / 'build').glob('*.always')},
            {'qemu.always', 'kernel.always'})
        asked = (self.top / 'asked').read_text(encoding='utf-8').split()
        self.assertEqual(asked[-2:], ['--suite', 'qtest'])

    def test_it_does_not_build(self) -> None:
        self.write_ninja('false')
        with self.assertRaisesRegex(Failure, "can't be built"):
            suites.run(Project(self.top), [])
        self.assertFalse((self.top / 'asked').exists())

    def test_results_of_another_time(self) -> None:
        self.write_ninja('touch $out')
        (self.top / 'results').touch()
        (self.top / 'build/meson-logs/testlog.json').write_text(
            '{"name": "a", "result": "OK"}\n', encoding='utf-8')
        with self.assertRaisesRegex(Failure, 'no test ran'):
            suites.run(Project(self.top), [])

    def test_why_one_failed(self) -> None:
        said = [f'line {number}' for number in range(100)]
        for stdout, stderr, lines in (
                ('1..3\nok 1 - a\nnot ok 2 - b\n# it hung\nok 3 - c\n# 1 s\n',
                 'b hung\n', ['not ok 2 - b', '# it hung', 'b hung']),
                ('ok 1\nnot ok 2', '', ['not ok 2']),
                ('1..1\n# it says\nnot ok 1\n', '', ['# it says', 'not ok 1']),
                ('\n'.join(said), '', said[-suites.LINES:]),
                ('', '\n'.join(said), said[-suites.LINES:])):
            with self.subTest(stdout):
                self.assertEqual(
                    suites.why({'stdout': stdout, 'stderr': stderr}), lines)
        self.assertEqual(suites.why({}), [])
