# SPDX-License-Identifier: GPL-2.0-or-later
"""
The README's commands, as they stand there, by an ordinary user.
"""

import re
import subprocess
import textwrap
from typing import List
import unittest

from kuf.build import debian
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.build.qemu_packages import PACKAGE
from kuf.packages import installed
from kuf.paths import TOP


def commands(heading: str) -> List[str]:
    """The blocks of shell commands in a section."""
    text = (TOP / 'README.md').read_text(encoding='utf-8')
    section = re.search(rf'^## {heading}\n(.*?)(?=^#)', text, re.M | re.S)
    assert section, heading
    return [textwrap.dedent(block) for block in
            re.findall(r'(?:^    .*\n)+', section[1], re.M)]


class InstallTest(unittest.TestCase):
    """"Install it", on a Debian 13 that has nothing of this."""

    def test_install_and_purge(self) -> None:
        """By sudo, with what apt brings from Debian."""
        make, _load, _elsewhere = commands('Install it')
        self.assertTrue(make.startswith('make deb\n'))
        install = make.split('\n', 1)[1]
        text = (TOP / 'README.md').read_text(encoding='utf-8')
        purge = re.search('`(sudo apt purge .*)` gives back', text)
        assert purge
        project = Project(TOP)
        tree = debian.build(project).copy('debian-13-readme')
        self.addCleanup(tree.remove)
        installed.checked(tree, 'apt-get', '-q', 'update')
        installed.checked(tree, 'apt-get', '-q', '-y', 'install', 'sudo')
        installed.checked(tree, 'useradd', '-m', 'tester')
        installed.checked(
            tree, 'sh', '-c', 'echo "tester ALL=(ALL) NOPASSWD: ALL" '
            '>/etc/sudoers.d/tester && mkdir -p ~tester/build/deb')
        for name in installed.put(tree, installed.packages(project)):
            installed.checked(tree, 'mv', name, '/home/tester/build/deb')

        def as_user(command: str) -> 'subprocess.CompletedProcess[str]':
            return tree.run('su', 'tester', '-c', f'cd; set -e; {command}',
                            stdin=None, input='y\n')

        done = as_user(install)
        self.assertEqual(done.returncode, 0, done.stdout)
        done = as_user(f'{PROGRAM} -version')
        self.assertIn('kvm-userfault', done.stdout)
        # What is not installed apt can't purge by its name.
        done = as_user(purge[1].replace('kvm-userfault-dkms ', ''))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(
            installed.checked(tree, 'dpkg-query', '-W', '-f',
                              '${binary:Package}\\n').count(PACKAGE), 0)


class UseTest(unittest.TestCase):
    """"Use it", in the emulated host."""

    def test_commands(self) -> None:
        """One after another, in one folder."""
        destination, source, look, emulator = commands('Use it')
        self.assertIn(f'/usr/bin/{PROGRAM}<', emulator)
        tree = installed.build(Project(TOP))
        done = subprocess.run(
            [TOP / 'host/run', '--smp', '2', '--timeout', '300', '--',
             TOP / 'host/as-user', tree.root, 'sh', '-ec',
             # Where two machines have time to spare, one has to wait.
             f'{destination}\n{source}\n'
             'for try in 1 2 3 4 5 6 7 8 9; do '
             f'answer=$({look.strip()}); '
             'case $answer in *completed*) break;; esac; sleep 2; done\n'
             'echo "$answer"'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn('completed', done.stdout)
        self.assertRegex(done.stdout, 'postcopy fault backend: kvm-userfault')


if __name__ == '__main__':
    unittest.main()
