# SPDX-License-Identifier: GPL-2.0-or-later
"""
The README's commands, as they stand there, by an ordinary user.
"""

import subprocess
import unittest

from kuf.build import (
    deb_kvm,
    debian,
    installed,
    stock_kernel,
)
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.build.qemu_packages import PACKAGE
from kuf.packages import host
from kuf.packages.readme import commands, purge
from kuf.paths import TOP


class InstallTest(unittest.TestCase):
    """"Install it", on a Debian 13 that has nothing of this."""

    def test_install_and_purge(self) -> None:
        """By sudo, with what apt brings from Debian."""
        make, _load, _elsewhere = commands('Install it')
        self.assertTrue(make.startswith('make deb\n'))
        install = make.split('\n', 1)[1]
        project = Project(TOP)
        packages = installed.packages(project)
        tree = debian.build(project).copy('debian-13-readme')
        self.addCleanup(tree.remove)
        tree.install('passwd', 'sudo')
        tree.output('useradd', '-m', 'tester')
        tree.output(
            'sh', '-c', 'echo "tester ALL=(ALL) NOPASSWD: ALL" '
            '>/etc/sudoers.d/tester && mkdir -p ~tester/build/deb')
        tree.put('/home/tester/build/deb', *packages)
        before = self.there(tree)

        def as_user(command: str) -> str:
            done = tree.run('su', 'tester', '-c', f'cd; set -e; {command}',
                            stdin=None, input='y\n')
            self.assertEqual(done.returncode, 0, done.stdout)
            return str(done.stdout)

        as_user(install)
        self.assertIn('kvm-userfault', as_user(f'{PROGRAM} -version'))
        release = f'{stock_kernel.release(project)}-amd64'
        self.assertRegex(as_user(f'/usr/sbin/modinfo -k {release} -n kvm'),
                         '/updates/dkms/kvm.ko')
        as_user(purge())
        self.assertEqual(
            [name for name in self.packages(tree)
             if name.startswith((PACKAGE, deb_kvm.NAME))], [])
        self.assertRegex(as_user(f'/usr/sbin/modinfo -k {release} -n kvm'),
                         '/kernel/arch/x86/kvm/kvm.ko')
        self.assertEqual(self.there(tree), before)

    @staticmethod
    def packages(tree: debian.Tree) -> 'list[str]':
        """All that dpkg knows of."""
        return tree.output('dpkg-query', '-W', '-f',
                           '${Package}\n').splitlines()

    @staticmethod
    def there(tree: debian.Tree) -> str:
        """Where something of ours could be left."""
        return tree.output(
            'find', '/', '-xdev', '(', '-name', '*kvm-userfault*', '-o',
            '-path', '/lib/modules/*/updates/*', ')', '!', '-path', '/home/*')


class UseTest(unittest.TestCase):
    """"Use it", in the emulated host."""

    def test_commands(self) -> None:
        """One after another, in one folder."""
        destination, source, look, emulator = commands('Use it')
        self.assertIn(f'/usr/bin/{PROGRAM}<', emulator)
        done: 'subprocess.CompletedProcess[str]' = host.migrate(
            TOP / 'host/as-user', 'sh', '-ec',
            # Where two machines have time to spare, one has to wait.
            f'{destination}\n{source}\n'
            'for try in 1 2 3 4 5 6 7 8 9; do '
            f'answer=$({look.strip()}); '
            'case $answer in *completed*) break;; esac; sleep 2; done\n'
            'echo "$answer"')
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn('completed', done.stdout)
        self.assertRegex(done.stdout, 'postcopy fault backend: kvm-userfault')


if __name__ == '__main__':
    unittest.main()
