#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of configure and scripts/patches, with a small stand-in for QEMU.

Each test has a copy of the project's own files, so that patches, base files
and build folders can be broken.  Nothing is fetched.
"""

import hashlib
import os
from pathlib import Path
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

TOP = Path(__file__).resolve().parent.parent

# A "QEMU" whose configure is a success at once.
FAKE_QEMU = {
    'VERSION': '10.0.99\n',
    'configure': '#!/bin/sh\necho configured >build.ninja\n',
    'hello.c': 'one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n',
    'other.c': 'other\n',
    'docs/index.rst': 'docs\n',
    'scripts/checkpatch.pl':
        'exit(system("grep -q UGLY $ARGV[-1]") == 0 ? 1 : 0);\n',
    '.gitattributes': '*.c diff=cpp\n',
    # A hunk at the end is in f() for Git's driver for C, and else in 'out:'.
    'label.c': 'int f(void)\n{\nout:\n' + '    g();\n' * 8 + '}\n',
}


class Project(unittest.TestCase):
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
        for name in ('base', 'demo', 'scripts', 'host'):
            shutil.copytree(TOP / name, self.top / name)
        for name in ('configure', 'meson.build', 'meson_options.txt'):
            shutil.copy(TOP / name, self.top)
        (self.top / 'patches').mkdir()
        self.use_meson_of_this_build()
        for name, text in FAKE_QEMU.items():
            self.write(self.qemu / name, text)
        (self.qemu / 'configure').chmod(0o755)

    def use_meson_of_this_build(self) -> None:
        """The copy must not fetch a build system of its own."""
        tools = TOP / 'build/tools'
        if not tools.exists():
            return
        mine = self.top / 'build/tools'
        mine.mkdir(parents=True)
        for part in tools.iterdir():
            if part.name != '.inputs':
                (mine / part.name).symlink_to(part)
        meson = hashlib.sha256((TOP / 'base/meson').read_bytes()).hexdigest()
        self.write(mine / '.inputs', f'{self.top}/build {meson}\n')

    @staticmethod
    def write(path: Path, text: str) -> None:
        """Write a file, its folder too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

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

    def patches(self) -> list:
        """The exported patches."""
        return sorted((self.top / 'patches').iterdir())


class ConfigureTest(Project):
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
        tools = self.folder / 'bin'
        self.write(tools / 'df', '#!/bin/sh\necho head\necho / 0 0 10 0 /\n')
        (tools / 'df').chmod(0o755)
        self.env['PATH'] = f"{tools}:{self.env['PATH']}"
        self.assertIn('has 10 MB free', self.configure(fails=True))

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
        self.write(self.top / 'docs/index.rst', 'mine\n')
        self.assertIn("'docs/index.rst' is a file of QEMU itself",
                      self.configure(fails=True))


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


class NewerBaseTest(Project):
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


class PatchesTest(Project):
    """The series, as commits and as files."""

    def setUp(self) -> None:
        super().setUp()
        self.configure()

    def export(self) -> str:
        """make export-patches"""
        return self.run_script('scripts/patches', 'export')

    def check(self, fails: bool = False) -> str:
        """make check-patches, but for building"""
        return self.run_script('scripts/patches', 'check', '--no-build',
                               fails=fails)

    def test_export_is_stable(self) -> None:
        self.change_hello('two')
        self.assertIn('written', self.export())
        first = [path.read_bytes() for path in self.patches()]
        self.assertEqual(len(first), 1)
        self.assertEqual(self.configure(), '')
        self.assertNotIn('written', self.export())
        # From the files to commits and back: other commits, same files.
        shutil.rmtree(self.top / 'build/src')
        self.configure()
        self.assertIn('TWO',
                      (self.tree / 'hello.c').read_text(encoding='utf-8'))
        self.assertNotIn('written', self.export())
        self.assertEqual(first, [p.read_bytes() for p in self.patches()])
        self.check()

    def test_changed_patch_is_noticed(self) -> None:
        self.change_hello('two')
        self.commit('other.c', 'changed\n', 'other: change')
        self.export()
        before = (self.tree / 'hello.c').stat().st_mtime_ns
        patch = self.patches()[1]
        patch.write_text(patch.read_text(encoding='utf-8')
                         .replace('+changed', '+changed more'),
                         encoding='utf-8')
        self.configure()
        self.assertEqual((self.tree / 'other.c').read_text(encoding='utf-8'),
                         'changed more\n')
        self.assertEqual(before, (self.tree / 'hello.c').stat().st_mtime_ns)
        patch.unlink()
        self.configure()
        self.assertEqual((self.tree / 'other.c').read_text(encoding='utf-8'),
                         'other\n')

    def test_broken_patch(self) -> None:
        self.change_hello('two')
        self.change_hello('eight', 'hello: change more')
        self.export()
        good = self.patches()[1].read_bytes()
        self.patches()[1].write_bytes(good.replace(b'\n nine', b'\n ninety'))
        for printed in (self.configure(fails=True), self.check(fails=True)):
            self.assertIn(self.patches()[1].name, printed)
            self.assertIn('does not apply', printed)
        # What was there is still there, and the way back is short.
        self.assertIn('EIGHT',
                      (self.tree / 'hello.c').read_text(encoding='utf-8'))
        self.patches()[1].write_bytes(good)
        self.configure()
        self.check()

    def test_no_fuzz(self) -> None:
        self.change_hello('five')
        self.export()
        path = self.patches()[0]
        path.write_bytes(path.read_bytes().replace(b'\n two', b'\n 2'))
        self.assertIn('does not apply', self.configure(fails=True))

    def test_hunks_are_named_as_in_the_base(self) -> None:
        """Git names hunks by the base's .gitattributes, in export and check."""
        self.commit('label.c', FAKE_QEMU['label.c'] + '/* f */\n', 'label: end')
        self.export()
        self.assertIn(b' @@ int f(void)', self.patches()[0].read_bytes())
        self.check()

    def test_export_writes_its_own_form(self) -> None:
        self.change_hello('two')
        self.export()
        path = self.patches()[0]
        path.write_bytes(path.read_bytes() + b'-- \n2.0\n')
        self.configure()
        self.assertIn("is not as 'make export-patches' writes it",
                      self.check(fails=True))

    def test_commits_are_not_lost(self) -> None:
        self.change_hello('two')
        self.export()
        self.change_hello('four', 'hello: not exported')
        (self.patches()[0]).unlink()
        self.assertIn('has commits that patches does not',
                      self.configure(fails=True))
        self.assertIn('has commits', self.check(fails=True))

    def test_killed_before_the_stamp(self) -> None:
        self.change_hello('two')
        self.export()
        shutil.rmtree(self.top / 'build/src')
        self.configure()
        self.git('tag', '-f', 'applied', 'base')
        (self.tree / '.git/series.inputs').unlink()
        self.configure()
        self.check()

    def test_edits_are_not_lost(self) -> None:
        self.write(self.tree / 'hello.c', 'edited\n')
        self.write(self.qemu / 'VERSION', '10.0.100\n')
        self.assertIn('uncommitted edits', self.configure(fails=True))
        self.assertIn('not committed',
                      self.run_script('scripts/patches', 'export',
                                      fails=True))
        self.assertEqual((self.tree / 'hello.c').read_text(encoding='utf-8'),
                         'edited\n')

    def test_stale_base(self) -> None:
        self.write(self.qemu / 'VERSION', '10.0.100\n')
        printed = self.check(fails=True)
        self.assertIn('10.0.99', printed)
        self.assertIn('run ./configure', printed)

    def test_stale_base_file(self) -> None:
        self.write(self.top / 'build/config.options', "host=no\n")
        self.assertIn('base/qemu asks for', self.check(fails=True))

    def test_checkpatch(self) -> None:
        self.commit('other.c', 'UGLY\n', 'other: ugly')
        self.export()
        self.assertIn('checkpatch has something to say about patches/0001',
                      self.check(fails=True))

    def test_checkpatch_of_overlay(self) -> None:
        self.write(self.top / 'migration/new.c', 'UGLY\n')
        self.configure()
        self.assertIn('checkpatch has something to say about migration/new.c',
                      self.check(fails=True))


if __name__ == '__main__':
    unittest.main(verbosity=2)
