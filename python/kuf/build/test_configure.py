# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of configure, from its options to the tree that it prepares.
"""

import os
from pathlib import Path
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace
import unittest
from unittest import mock

from kuf.build.apt import Apt
from kuf.build.configure import check_machine
from kuf.build.project import Project
from kuf.build.stamp import lock
from kuf.build.testing import FAKE_QEMU, ProjectTest
from kuf.build.tree import Tree
from kuf.cli import Failure


class ConfigureTest(ProjectTest):
    """Options, the base and the overlay."""

    def test_help(self) -> None:
        printed = self.run_script('configure', '--help')
        for option in ('--no-install', '--qemu-source', '--linux-source',
                       '--without-host'):
            self.assertIn(option, printed)
        self.assertFalse((self.top / 'build/src').exists())

    def test_unknown_option(self) -> None:
        self.assertIn("unknown option '--nonsense'",
                      self.configure('--nonsense', fails=True))

    def test_missing_package_is_only_listed(self) -> None:
        with open(self.top / 'base/packages', 'a', encoding='utf-8') as file:
            file.write('no-such-package-here\n')
        self.assertIn('no-such-package-here', self.configure(fails=True))

    def test_second_run_does_nothing(self) -> None:
        self.assertIn('Copying', self.configure())
        before = (self.top / 'build/qemu/build.ninja').stat().st_mtime_ns
        self.assertEqual(self.configure(), '')
        self.assertEqual(self.run_script('configure', '--no-install'), '')
        after = (self.top / 'build/qemu/build.ninja').stat().st_mtime_ns
        self.assertEqual(before, after)

    def test_wrong_base_version(self) -> None:
        self.write(self.qemu / 'VERSION', '9.2.4\n')
        printed = self.configure(fails=True)
        self.assertIn("QEMU '9.2.4'", printed)
        self.assertIn('10.0.*', printed)
        self.assertFalse(self.tree.exists())

    def test_source_is_not_there(self) -> None:
        printed = self.run_script('configure', '--qemu-source=/nowhere',
                                  fails=True)
        self.assertIn("'/nowhere' does not exist", printed)

    def test_source_is_no_archive(self) -> None:
        broken = self.folder / 'broken.tar.xz'
        broken.write_bytes(b'not a tarball')
        printed = self.configure(f'--qemu-source={broken}', fails=True)
        self.assertIn('could not be read', printed)
        self.assertFalse(self.tree.exists())

    def test_tarball(self) -> None:
        tarball = self.folder / 'qemu.tar.xz'
        subprocess.run(['tar', '-cJf', tarball, '-C', self.folder, 'qemu'],
                       check=True)
        self.configure(f'--qemu-source={tarball}')
        self.assertTrue((self.tree / 'hello.c').exists())

    def test_new_base_replaces_the_old(self) -> None:
        self.configure()
        built = self.top / 'build/qemu/built'
        built.touch()
        self.write(self.qemu / 'VERSION', '10.0.100\n')
        self.configure()
        self.assertIn('10.0.100', self.git('log', '-1', '--format=%s', 'base'))
        self.assertFalse(built.exists())

    def test_offline(self) -> None:
        apt = self.folder / 'apt.conf'
        apt.write_text('Acquire::http::Proxy "http://127.0.0.1:9";\n'
                       'Acquire::https::Proxy "http://127.0.0.1:9";\n'
                       'Acquire::Retries "0";\n', encoding='ascii')
        self.env['APT_CONFIG'] = str(apt)
        printed = self.run_script('configure', '--no-install', fails=True)
        self.assertIn('no package list could be fetched', printed)
        self.assertIn('check the network', printed)
        self.assertFalse(self.tree.exists())

    def test_no_space(self) -> None:
        project = Project(self.top)
        usage = SimpleNamespace(free=10 << 20)
        with mock.patch('shutil.disk_usage', return_value=usage), \
                self.assertRaisesRegex(Failure, 'preparing QEMU needs .*has 10'
                                       ' MB free'):
            Tree(project, 'qemu').prepare(Apt(project), str(self.qemu))
        self.assertFalse(self.tree.exists())

    def test_little_memory(self) -> None:
        with mock.patch('kuf.build.configure.memory', return_value=2000), \
                self.assertRaisesRegex(Failure, 'this machine has 2000 MB'):
            check_machine(Project(self.top))

    def test_path_that_builds_can_not_take(self) -> None:
        with self.assertRaisesRegex(Failure, 'clone into another folder'):
            check_machine(Project(Path('/tmp/with a space')))

    def test_meson_fails(self) -> None:
        self.write_program(self.top / 'build/tools/bin/meson',
                           '#!/bin/sh\necho "meson.build:1: ERROR: bad"\n'
                           'exit 1\n')
        printed = self.configure(fails=True)
        self.assertIn('meson failed: meson.build:1: ERROR: bad', printed)

    def test_host_is_remembered(self) -> None:
        ninja = self.top / 'build/build.ninja'
        self.configure()
        self.assertIn('-Dhost=false', ninja.read_text(encoding='utf-8'))
        self.assertEqual(self.run_script('configure'), '')

    def test_one_at_a_time(self) -> None:
        with lock(self.top / 'build/.lock'):
            self.assertIn('another configure runs in',
                          self.configure(fails=True))

    def test_killed_half_way(self) -> None:
        self.write(self.qemu / 'configure',
                   '#!/bin/sh\ntouch half\nsleep 60\n')
        with subprocess.Popen(
                [self.top / 'configure', '--no-install', '--without-host',
                 f'--qemu-source={self.qemu}'], env=self.env,
                start_new_session=True, stdout=subprocess.DEVNULL) as process:
            while not (self.top / 'build/qemu/half').exists():
                self.assertIsNone(process.poll())
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
        self.write(self.top / 'build/src/.qemu/half', 'unpacked')
        shutil.copy(self.qemu / 'configure', self.tree / 'configure')
        self.write(self.tree / 'configure', FAKE_QEMU['configure'])
        self.git('reset', '-q', '--hard')
        self.write(self.qemu / 'VERSION', '10.0.98\n')
        self.write(self.qemu / 'configure', FAKE_QEMU['configure'])
        self.configure()
        self.assertFalse((self.tree / 'half').exists())
        self.assertFalse((self.top / 'build/qemu/half').exists())
        self.assertTrue((self.top / 'build/qemu/build.ninja').exists())

    def test_overlay(self) -> None:
        self.write(self.top / 'migration/new.c', 'first\n')
        self.configure()
        link = self.tree / 'migration/new.c'
        self.write(self.top / 'migration/new.c', 'second\n')
        self.assertEqual(link.read_text(encoding='utf-8'), 'second\n')
        self.assertEqual(self.git('status', '--porcelain'), '')
        (self.top / 'migration/new.c').unlink()
        self.configure()
        self.assertFalse(link.is_symlink())

    def test_overlay_is_new_files_only(self) -> None:
        self.write(self.top / 'docs/system/index.rst', 'mine\n')
        self.assertIn("'docs/system/index.rst' is a file of QEMU itself",
                      self.configure(fails=True))

    def test_refused_overlay_leaves_nothing(self) -> None:
        self.configure()
        self.write(self.top / 'docs/system/index.rst', 'mine\n')
        self.write(self.top / 'docs/system/a.rst', 'new\n')
        self.configure(fails=True)
        self.assertEqual(self.git('status', '--porcelain'), '')


class NoPythonTest(ProjectTest):
    """A machine that has no Python yet."""

    def setUp(self) -> None:
        super().setUp()
        python = self.folder / 'python3'
        script = self.top / 'configure'
        script.write_text(script.read_text(encoding='utf-8').replace(
            '/usr/bin/python3', str(python)), encoding='utf-8')
        self.apt = self.folder / 'bin/apt-get'
        self.env['PATH'] = f"{self.apt.parent}:{self.env['PATH']}"
        self.installs = f'ln -sf /usr/bin/python3 {python}'

    def mirror(self, action: str) -> None:
        """What installing does."""
        self.write_program(
            self.apt, '#!/bin/sh\ncase " $* " in\n'
            f"*' install -y '*' python3 '*) {action} ;;\nesac\n")

    def test_it_is_installed(self) -> None:
        self.mirror(self.installs)
        printed = self.run_script('configure', '--nonsense', fails=True)
        self.assertIn('Installing packages: python3\n', printed)
        self.assertIn("unknown option '--nonsense'", printed)

    def test_it_can_not_be_installed(self) -> None:
        self.mirror('exit 100')
        self.assertIn('python3 could not be installed',
                      self.run_script('configure', fails=True))

    def test_nothing_is_installed_unasked(self) -> None:
        self.mirror(self.installs)
        for option in ('--no-install', '--help'):
            self.assertIn('python3 is missing',
                          self.run_script('configure', option, fails=True))


# A Debian mirror of one source package, of which it has those versions that are
# in the file "mirror".  What is unpacked is the stand-in.
MIRROR = {
    'apt-get': """#!/bin/sh
case " $* " in
*' indextargets '*) echo http://mirror.example/debian trixie ;;
*' source '*) touch qemu.dsc qemu.orig.tar.xz ;;
esac
""",
    'apt-cache': """#!/bin/sh
sed 's/^/Version: /' "${0%/*}/mirror"
""",
    'dpkg-source': """#!/bin/sh
cp -r "${0%/*/*}/qemu" "$4"
""",
}


class NewerBaseTest(ProjectTest):
    """A mirror that has what the patches are made for, or has gone on."""

    MADE_FOR = '10.0.50'

    def setUp(self) -> None:
        super().setUp()
        self.tools = self.folder / 'bin'
        for name, text in MIRROR.items():
            self.write(self.tools / name, text)
            (self.tools / name).chmod(0o755)
        self.env['PATH'] = f"{self.tools}:{self.env['PATH']}"
        base = self.top / 'base/qemu'
        base.write_text(
            ''.join(f'{line}\n' for line in
                    base.read_text(encoding='utf-8').splitlines()
                    if not line.startswith('sha256'))
            .replace('10.0.13', self.MADE_FOR), encoding='utf-8')

    def mirror(self, *versions: str, unpacks: str) -> None:
        """What there is, and what is in the one that is to be taken."""
        self.write(self.tools / 'mirror',
                   ''.join(f'1:{version}\n' for version in versions))
        self.write(self.qemu / 'VERSION', f'{unpacks}\n')

    def from_mirror(self, fails: bool = False) -> str:
        """configure, with Debian's package"""
        return self.run_script('configure', '--no-install', '--without-host',
                               '--qemu-source=', fails=fails)

    def make_patch(self) -> str:
        """A patch that is made for that version; returns its name."""
        self.mirror(f'{self.MADE_FOR}+ds-0+deb13u1', unpacks=self.MADE_FOR)
        self.from_mirror()
        self.change_hello('two')
        self.run_script('scripts/patches', 'export')
        return self.patches()[0].name

    def test_exactly_that_one(self) -> None:
        self.mirror('10.0.13+ds-1', '10.0.50+ds-2', '10.0.51+ds-1',
                    '10.0.500-1', unpacks='10.0.50')
        printed = self.from_mirror()
        self.assertIn('Fetching qemu 1:10.0.50+ds-2\n', printed)
        self.assertNotIn('trying', printed)

    def test_newer_one(self) -> None:
        self.make_patch()
        shutil.rmtree(self.top / 'build/base')
        shutil.rmtree(self.top / 'build/src')
        self.mirror('10.0.9+ds-1', '10.0.100+ds-1', '10.0.51+ds-2', '10.1.0-1',
                    unpacks='10.0.100')
        printed = self.from_mirror()
        self.assertIn('Fetching qemu 1:10.0.100+ds-1\n', printed)
        self.assertIn('the series is made for 10.0.50; trying 10.0.100\n',
                      printed)
        self.assertRegex(printed, r'\nsha256   10\.0\.100\+ds-1 [0-9a-f]{64}\n')
        self.assertIn('QEMU: 1 patches on qemu 1:10.0.100+ds-1\n', printed)
        self.assertEqual(self.from_mirror(), '')

    def test_what_was_fetched_stays(self) -> None:
        self.mirror('10.0.50+ds-1', unpacks='10.0.50')
        self.from_mirror()
        self.mirror('10.0.51+ds-1', unpacks='10.0.51')
        self.assertEqual(self.from_mirror(), '')
        shutil.rmtree(self.top / 'build/src')
        self.assertNotIn('10.0.51', self.from_mirror().split('trying')[0])

    def test_older_ones_only(self) -> None:
        self.mirror('10.0.13+ds-1', '10.0.9+ds-1', unpacks='10.0.13')
        printed = self.from_mirror(fails=True)
        self.assertIn('no qemu 10.0.50 or newer in trixie', printed)
        self.assertFalse(self.tree.exists())

    def test_other_line_only(self) -> None:
        self.mirror('10.1.3+ds-1', unpacks='10.1.3')
        self.assertIn('no qemu 10.0.50 or newer', self.from_mirror(fails=True))

    def test_newer_one_does_not_take_the_patch(self) -> None:
        patch = self.make_patch()
        shutil.rmtree(self.top / 'build/base')
        shutil.rmtree(self.top / 'build/src')
        self.write(self.qemu / 'hello.c', FAKE_QEMU['hello.c'].replace(
            'three', '3'))
        self.mirror('10.0.51+ds-1', unpacks='10.0.51')
        printed = self.from_mirror(fails=True)
        error = printed.splitlines()[-1]
        self.assertIn(f"patches/{patch} does not apply to "
                      "'qemu 1:10.0.51+ds-1' in hello.c", error)
        self.assertIn('made for 10.0.50', error)
        self.assertIn("'A new stable update'", error)
        self.assertIn('--qemu-source', error)
        # As it says there, with one thing to do by hand.
        base = self.top / 'base/qemu'
        base.write_text(base.read_text(encoding='utf-8')
                        .replace('10.0.50', '10.0.51'), encoding='utf-8')
        self.from_mirror(fails=True)
        am = subprocess.run(
            ['git', '-C', self.tree, 'am', '--reject', *self.patches()],
            env=self.env, check=False, capture_output=True)
        self.assertNotEqual(am.returncode, 0)
        text = (self.tree / 'hello.c').read_text(encoding='utf-8')
        self.write(self.tree / 'hello.c', text.replace('two', 'TWO'))
        (self.tree / 'hello.c.rej').unlink()
        self.git('add', 'hello.c')
        self.git('am', '--continue')
        self.run_script('scripts/patches', 'export')
        self.assertNotIn('trying', self.from_mirror())
        self.run_script('scripts/patches', 'check', '--no-build')

    def test_given_source(self) -> None:
        self.write(self.qemu / 'VERSION', '10.0.50\n')
        self.assertNotIn('trying', self.configure())
        self.write(self.qemu / 'VERSION', '10.0.52\n')
        self.assertIn('made for 10.0.50; trying 10.0.52', self.configure())


if __name__ == '__main__':
    unittest.main(verbosity=2)
