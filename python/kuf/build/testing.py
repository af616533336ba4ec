# SPDX-License-Identifier: GPL-2.0-or-later
"""
A small stand-in for QEMU, and a copy of the project that is laid over it.

Each test has its own, so that patches, base files and build folders can be
broken.  Nothing is fetched.
"""

import os
from pathlib import Path
import shutil
import subprocess
import tempfile
from typing import List
import unittest

from kuf.build import stamp
from kuf.build.tools import TOOLS
from kuf.paths import TOP


# A "QEMU" whose configure is a success at once.
FAKE_QEMU = {
    'VERSION': '10.0.99\n',
    'configure': '#!/bin/sh\necho configured >build.ninja\n',
    'hello.c': 'one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n',
    'other.c': 'other\n',
    'docs/system/index.rst': 'docs\n',
    'migration/meson.build': 'files(\n)\n',
    'scripts/checkpatch.pl':
        'exit(system("grep -q UGLY $ARGV[-1]") == 0 ? 1 : 0);\n',
    '.gitattributes': '*.c diff=cpp\n',
    # A hunk at the end is in f() for Git's driver for C, and else in 'out:'.
    'label.c': 'int f(void)\n{\nout:\n' + '    g();\n' * 8 + '}\n',
}


# It says what it was asked for, and is a success.
FAKE_MESON = """#!/bin/sh
echo "$@" >"${0%/tools/*}/build.ninja"
"""


class ProjectTest(unittest.TestCase):
    """A copy of the project over the stand-in."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix='configure-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.top = self.folder / 'project'
        self.qemu = self.folder / 'qemu'
        self.tree = self.top / 'build/src/qemu'
        self.env = dict(os.environ, GIT_CONFIG_GLOBAL='/dev/null',
                        GIT_AUTHOR_NAME='A', GIT_AUTHOR_EMAIL='a@b',
                        GIT_COMMITTER_NAME='C', GIT_COMMITTER_EMAIL='c@d')
        for name in ('base', 'host/configs', 'python', 'scripts'):
            shutil.copytree(TOP / name, self.top / name)
        shutil.copy(TOP / 'configure', self.top)
        (self.top / 'patches').mkdir()
        self.write_program(self.top / 'build/tools/bin/meson', FAKE_MESON)
        self.write(self.top / 'build/tools/.inputs', self.tools_inputs())
        for name, text in FAKE_QEMU.items():
            self.write(self.qemu / name, text)
        (self.qemu / 'configure').chmod(0o755)

    def tools_inputs(self) -> str:
        """configure finds a meson that is new enough, and pycotap."""
        return ' '.join([f'{self.top}/build', *(
            stamp.checksum(self.top / 'base' / name) for name in TOOLS)]) + '\n'

    @staticmethod
    def write(path: Path, text: str) -> None:
        """Write a file, its folder too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

    def write_program(self, path: Path, text: str) -> None:
        """Write a file that can be run."""
        self.write(path, text)
        path.chmod(0o755)

    def run_script(self, *command: str, fails: bool = False) -> str:
        """Run a script of the copy; returns what it printed."""
        done = subprocess.run(
            [str(self.top / command[0]), *command[1:]], env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode != 0, fails, done.stdout)
        if fails:
            errors = [line for line in done.stdout.splitlines()
                      if ': error: ' in line]
            self.assertEqual(len(errors), 1, done.stdout)
        return done.stdout

    def configure(self, *options: str, fails: bool = False) -> str:
        """Run configure without packages and without a host."""
        return self.run_script('configure', '--no-install', '--without-host',
                               f'--qemu-source={self.qemu}', *options,
                               fails=fails)

    def git(self, *args: str) -> str:
        """Git in the prepared tree, as a developer would use it."""
        return subprocess.run(['git', '-C', str(self.tree), *args],
                              env=self.env, check=True, text=True,
                              stdout=subprocess.PIPE).stdout.strip()

    def commit(self, name: str, text: str, subject: str) -> None:
        """One commit in the prepared tree."""
        self.write(self.tree / name, text)
        self.git('add', name)
        self.git('commit', '-q', '-s', '-m', f'{subject}\n\nBecause.')

    def change_hello(self, number: str,
                     subject: str = 'hello: change') -> None:
        """A commit that changes a line of hello.c."""
        text = (self.tree / 'hello.c').read_text(encoding='utf-8')
        self.commit('hello.c', text.replace(number, number.upper()), subject)

    def patches(self) -> List[Path]:
        """The exported patches."""
        return sorted((self.top / 'patches').glob('*.patch'))
