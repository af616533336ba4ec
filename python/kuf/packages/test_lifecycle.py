# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the packages of QEMU put on a machine, and that it goes with them.
"""

from pathlib import Path
import re
import tempfile
from typing import Dict, List, Set
import unittest

from kuf.build import debian, qemu_packages
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.build.qemu_packages import MODULES, PACKAGE
from kuf.paths import TOP
from kuf.process import run


# What dpkg, apt, the C library's loader and mount keep for themselves.
KEPT = ('proc', 'sys', 'dev', 'tmp', 'var/lib/dpkg', 'var/lib/apt', 'var/cache',
        'var/log', 'etc/ld.so.cache', 'run/mount')

CONFFILE = f'/etc/apparmor.d/abstractions/libvirt-qemu.d/{PACKAGE}'
# Of Debian 13's libvirt.
ABSTRACTION = '/etc/apparmor.d/abstractions/libvirt-qemu'

# Longer than all that is tried in it.
RUNNING = ('-machine', 'none', '-display', 'none', '-daemonize', '-pidfile',
           '/tmp/running.pid')


class LifecycleTest(unittest.TestCase):
    """
    A Debian 13 with what the packages depend on, and they come and go.
    """

    tree: debian.Tree
    files: List[str]
    later: List[str]

    @classmethod
    def setUpClass(cls) -> None:
        project = Project(TOP)
        built = qemu_packages.build(project)
        cls.tree = debian.build(project).copy('debian-13-lifecycle')
        cls.addClassCleanup(cls.tree.remove)
        with tempfile.TemporaryDirectory(prefix='later-') as folder:
            later = [cls.repacked(path, Path(folder)) for path in built]
            cls.files = cls.tree.put('/tmp', *built)
            cls.later = cls.tree.put('/tmp', *later)
        cls.tree.install('procps', *cls.files)
        cls.tree.output('dpkg', '--purge', PACKAGE, f'{PACKAGE}-modules')

    @staticmethod
    def repacked(package: Path, folder: Path) -> Path:
        """The same as a later version."""
        content = folder / package.stem
        run(['dpkg-deb', '-R', package, content])
        control = content / 'DEBIAN/control'
        text = control.read_text(encoding='utf-8')
        version = re.search('^Version: (.*)$', text, re.M)
        assert version
        control.write_text(text.replace(version[1], f'{version[1]}.1'),
                           encoding='utf-8')
        new = folder / f'later-{package.name}'
        run(['dpkg-deb', '--root-owner-group', '-Znone', '-b', content, new],
            stdout=-3)
        return new

    def output(self, *command: str) -> str:
        """What a command prints there."""
        return self.tree.output(*command)

    def state(self) -> Dict[str, str]:
        """All files, and what tells that they have changed."""
        skipped = ' -o '.join(f'-path /{name}' for name in KEPT)
        text = self.output(
            'find', '/', '-xdev', '(', *skipped.split(), ')', '-prune', '-o',
            '!', '-type', 'd', '-printf', '%p\t%y %m %u %g %s %T@ %l\n', '-o',
            '-printf', '%p\t%y %m %u %g\n')
        return dict(line.split('\t', 1) for line in text.splitlines())

    def owned(self) -> Set[str]:
        """What the packages list as theirs."""
        return set(self.output('dpkg', '-L', PACKAGE,
                               f'{PACKAGE}-modules').split('\n')) - {'', '/.'}

    def differences(self, before: Dict[str, str]) -> Set[str]:
        """What is not as it was."""
        now = self.state()
        return {path for path in before.keys() | now.keys()
                if before.get(path) != now.get(path)}

    def purge(self) -> None:
        """As after apt-get purge."""
        self.output('dpkg', '--purge', f'{PACKAGE}-modules', PACKAGE)

    def test_nothing_left(self) -> None:
        """Installed, upgraded, removed, purged: each as it should be."""
        before = self.state()
        self.addCleanup(self.purge)
        self.output('dpkg', '-i', *self.files)
        new = self.differences(before)
        self.assertEqual(new - self.owned(), set())
        self.assertIn(f'/usr/bin/{PROGRAM}', new)
        self.assertIn('ui-gtk', self.output('ls', MODULES))
        self.output('dpkg', '-i', *self.later)
        self.assertEqual(self.differences(before) - self.owned(), set())
        self.output(PROGRAM, '-version')
        self.output('dpkg', '--remove', f'{PACKAGE}-modules', PACKAGE)
        left = {path for path in self.differences(before)
                if path in self.state()}
        self.assertEqual(
            {path for path in left if not path.startswith('/etc')}, set())
        self.assertIn(CONFFILE, left)
        self.purge()
        self.assertEqual(self.differences(before), set())

    def test_runs_meanwhile(self) -> None:
        """
        A QEMU that runs during an upgrade finds the modules that it was built
        with; they go with the package.
        """
        before = self.state()
        self.addCleanup(self.purge)
        self.output('dpkg', '-i', *self.files)
        # In one namespace, for processes and for what is mounted below /run.
        text = self.output(
            'sh', '-c', 'set -e; program=$1; package=$2; shift 2; '
            '"$program" ' + ' '.join(RUNNING) + '; dpkg -i "$@"; '
            'ls -d /run/qemu/*; ls /run/qemu/*; dpkg --purge '
            '"$package-modules" "$package"; test ! -e /run/qemu; '
            'kill $(cat /tmp/running.pid)', 'sh', PROGRAM, PACKAGE,
            *self.later)
        self.assertRegex(text, r'\n/run/qemu/kvm-userfault_')
        self.assertIn('\nblock-curl.so\n', text)
        self.assertEqual(self.differences(before), set())

    def test_half_done(self) -> None:
        """What was cut short is finished by what dpkg says to run."""
        before = self.state()
        self.addCleanup(self.purge)
        self.output('dpkg', '--unpack', *self.files)
        self.output('dpkg', '--configure', '-a')
        self.output(PROGRAM, '-version')
        self.purge()
        self.assertEqual(self.differences(before), set())

    def test_two_versions(self) -> None:
        """Modules of one version and a QEMU of another can't be together."""
        self.output('dpkg', '-i', *self.files)
        self.addCleanup(self.purge)
        done = self.tree.run('dpkg', '-i', self.later[0])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f'{PACKAGE}-modules depends on {PACKAGE} (= ',
                      done.stdout)
        self.output('dpkg', '-i', *self.files)

    def test_apparmor(self) -> None:
        """libvirt's profile of a VM takes what the package adds to it."""
        self.tree.install('apparmor', 'libvirt-daemon-driver-qemu')
        self.output('dpkg', '-i', *self.files)
        self.addCleanup(self.purge)
        profile = self.output(
            'sh', '-c', "printf '#include <tunables/global>\\nprofile vm {\\n"
            "  #include <abstractions/libvirt-qemu>\\n}\\n' | "
            'apparmor_parser --skip-kernel-load --skip-cache --debug '
            '--preprocess')
        self.assertIn(f'/usr/bin/{PROGRAM} rmix', profile)
        self.assertIn('/qemu-kvm-userfault/qemu/*.so mr', profile)


if __name__ == '__main__':
    unittest.main()
