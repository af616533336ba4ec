# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run the tests of build/ and count them.

Nothing here is optional, so a test that was skipped counts as failed.
"""

import json
import os
import re
import subprocess
import sys
from typing import Any, Dict, List

from kuf import cli
from kuf.build import tools
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


# Between a test's suites and its name, in meson's list.
SUITE = ' / '
# So many lines of a failed test are said again at the end.
LINES = 20


def _names(project: Project, options: List[str]) -> List[str]:
    """The tests that meson test runs with these options."""
    listed = subprocess.run(
        [tools.meson(project), 'test', '-C', project.build, '--list',
         *options], stdout=subprocess.PIPE, text=True, check=False).stdout
    return [line.rsplit(SUITE, 1)[1] for line in listed.splitlines()
            if SUITE in line]


def _needs(project: Project, names: List[str]) -> List[str]:
    """What tests depend on, as ninja knows it."""
    info = project.build / 'meson-info'
    tests = json.loads((info / 'intro-tests.json').read_text('utf-8'))
    targets = json.loads((info / 'intro-targets.json').read_text('utf-8'))
    needed = {target for test in tests if test['name'] in names
              for target in test['depends']}
    return [os.path.relpath(path, project.build) for target in targets
            if target['id'] in needed for path in target['filename']]


def build(project: Project, options: List[str]) -> None:
    """
    Build what those tests need.  By itself, meson test builds what any test
    needs, unless each is named.
    """
    needs = _needs(project, _names(project, options))
    if needs and subprocess.run(['ninja', '-C', project.build, *needs],
                                check=False).returncode:
        raise Failure("what the tests need can't be built; see what is "
                      'printed above')


def run(project: Project, options: List[str]) -> List[Dict[str, Any]]:
    """The results of meson test with these options."""
    build(project, options)
    logs = project.build / 'meson-logs'
    # meson names it after the setup, if it was told one.
    for left in logs.glob('testlog*.json'):
        left.unlink()
    subprocess.run([tools.meson(project), 'test', '-C', project.build,
                    '--no-rebuild', '--print-errorlogs', *options],
                   check=False)
    for path in logs.glob('testlog*.json'):
        tests = [json.loads(line) for line in
                 path.read_text(encoding='utf-8').splitlines()]
        if tests:
            return tests
    raise Failure('no test ran; see what meson printed above')


def why(test: Dict[str, Any]) -> List[str]:
    """
    The lines that tell best why a test failed: its subtests that did, if it
    has any, with the remarks around them, and the last ones of its standard
    error.
    """
    out: str = test.get('stdout', '')
    error: str = test.get('stderr', '')
    failed = re.findall(r'^(?:#.*\n)*not ok.*\n(?:#.*\n)*', out + '\n', re.M)
    lines = ''.join(failed).splitlines() or out.splitlines()
    return lines[-LINES:] + error.splitlines()[-LINES:]


def _work() -> int:
    tests = run(Project(TOP), sys.argv[1:])
    failed = [test for test in tests if test['result'] != 'OK']
    # Again, and last: who keeps only the end of a long log has this.
    for test in failed:
        print(f"{test['result']}: {test['name']}")
        for line in why(test):
            print(f'  {line}')
    print(f'{len(tests) - len(failed)} passed, {len(failed)} failed')
    return int(bool(failed))


def main() -> int:
    """The program."""
    return cli.run('scripts/check', _work)
