# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run the tests of build/ and count them.

Nothing here is optional, so a test that was skipped counts as failed.
"""

import json
import subprocess
import sys
from typing import Any, Dict, List

from kuf import cli
from kuf.build import tools
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


def run(project: Project, options: List[str]) -> List[Dict[str, Any]]:
    """The results of meson test with these options."""
    logs = project.build / 'meson-logs'
    # meson names it after the setup, if it was told one.
    for left in logs.glob('testlog*.json'):
        left.unlink()
    subprocess.run([tools.meson(project), 'test', '-C', project.build,
                    '--print-errorlogs', *options], check=False)
    for path in logs.glob('testlog*.json'):
        tests = [json.loads(line) for line in
                 path.read_text(encoding='utf-8').splitlines()]
        if tests:
            return tests
    raise Failure('no test ran; see what meson printed above')


def _work() -> int:
    tests = run(Project(TOP), sys.argv[1:])
    failed = [test for test in tests if test['result'] != 'OK']
    for test in failed:
        print(f"{test['result']}: {test['name']}")
    print(f'{len(tests) - len(failed)} passed, {len(failed)} failed')
    return int(bool(failed))


def main() -> int:
    """The program."""
    return cli.run('scripts/check', _work)
