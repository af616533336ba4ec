# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of kvm-userfault-dkms: on Debian 13 with its stock kernel, as a user has
it, and what is in its way.
"""

from pathlib import Path
import re
import subprocess
import time
from typing import Any
import unittest
from unittest import mock

from kuf.build import (
    deb_kvm,
    debian,
    installed,
    qemu_packages,
    stock_kernel,
)
from kuf.build.debian import Tree
from kuf.build.project import Project
from kuf.packages import host
from kuf.packages.readme import reload
from kuf.paths import SELFTESTS, TOP


PROJECT = Project(TOP)
PACKAGE = deb_kvm.NAME

# Where modprobe takes KVM from.
OURS = r'/lib/modules/\S+/updates/dkms/kvm\.ko'
DEBIANS = r'/lib/modules/\S+/kernel/arch/x86/kvm/kvm\.ko'

RELOAD = reload()

# Holds a virtual machine while a command runs: 0xae01 is KVM_CREATE_VM.
WITH_MACHINE = '''
import fcntl, subprocess, sys
kvm = open("/dev/kvm", "rb+", buffering=0)
machine = fcntl.ioctl(kvm, 0xae01, 0)
sys.exit(subprocess.call(sys.argv[1:]))
'''


# depmod reads every module, which takes minutes there; KVM needs none of these.
FEW_MODULES = '''\
cd /lib/modules/$(uname -r)/kernel
for name in drivers/[!c]* fs net sound; do mount -t tmpfs tmpfs $name; done
cd
'''


def in_host(script: str, *options: str) -> 'subprocess.CompletedProcess[str]':
    """Run a script in the Debian 13 with the package, on its stock kernel."""
    return host.run('sh', '-c', FEW_MODULES + script, options=options)


class HostTest(unittest.TestCase):
    """As a user has it."""

    def run_in_host(self, script: str, *options: str) -> str:
        """Run a script that has to end well; returns what it says."""
        done = in_host(f'set -e; {script}', *options)
        self.assertEqual(done.returncode, 0, done.stdout)
        return str(done.stdout)

    def test_load(self) -> None:
        """Loaded as the package says, it does what the series adds."""
        said = self.run_in_host(f'{RELOAD}; modinfo -n kvm;'
                                f'{SELFTESTS}/userfault_test')
        self.assertRegex(said, OURS)

    def test_not_loaded(self) -> None:
        """Until then KVM is Debian's, which can't."""
        done = in_host(f'{SELFTESTS}/userfault_test')
        self.assertEqual(done.returncode, 4, done.stdout)

    def test_in_use(self) -> None:
        """With a virtual machine, KVM stays, whatever is done."""
        said = self.run_in_host(
            f"{RELOAD}; python3 -c '{WITH_MACHINE}' sh -c '! modprobe -r "
            f"kvm_amd && apt-get remove -y {PACKAGE}'; modinfo -n kvm;"
            f'{SELFTESTS}/userfault_test')
        self.assertIn('kvm_amd is in use', said)
        self.assertRegex(said, DEBIANS)

    def test_remove(self) -> None:
        """Nothing is left, and it says how Debian's KVM comes back."""
        said = self.run_in_host(
            f'{RELOAD}; apt-get remove -y {PACKAGE}; {RELOAD};'
            'echo loaded: $(modinfo -n kvm); echo left:'
            ' $(find /usr/src /var/lib/dkms /lib/modules'
            ' -name "*kvm-userfault*" -o -path "*/updates/*" -name "*.ko*")')
        self.assertIn("run 'modprobe -r kvm_amd kvm && modprobe kvm_amd'",
                      said)
        self.assertRegex(said, f'loaded: {DEBIANS}')
        self.assertRegex(said, r'left:\n')

    def test_other_kernel(self) -> None:
        """A kernel of another release keeps its KVM, without an error."""
        other = '6.12.999+deb13-amd64'
        said = self.run_in_host(
            f'mkdir /lib/modules/{other};'
            'cp -a /lib/modules/$(uname -r)/build'
            f' /lib/modules/$(uname -r)/modules.* /lib/modules/{other};'
            f'/etc/kernel/postinst.d/dkms {other};'
            f'echo there: $(find /lib/modules/{other} -name "*.ko*")')
        self.assertRegex(said, r'there:\n')

    def test_no_headers(self) -> None:
        """Without headers it says so, and is installed all the same."""
        said = self.run_in_host('rm /lib/modules/$(uname -r)/build;'
                                f'dpkg-reconfigure {PACKAGE}; modinfo -n kvm')
        self.assertRegex(said, 'kvm-userfault: the headers of the kernel that '
                         "runs are missing, .* run 'apt install linux-headers")
        self.assertRegex(said, DEBIANS)

    def test_signature(self) -> None:
        """No KVM is installed that the kernel would refuse."""
        said = self.run_in_host(
            f'apt-get remove -y {PACKAGE}; dpkg -i /root/{PACKAGE}_*.deb;'
            f'{RELOAD}; modinfo -n kvm', '--append', 'lockdown=integrity')
        self.assertRegex(said, 'kvm-userfault: this kernel takes only signed '
                         "modules .* 'mokutil --import /var/lib/dkms/mok.pub'")
        self.assertRegex(said, DEBIANS)

    def test_no_space(self) -> None:
        """It says what is missing, and what to do then."""
        done = in_host('mount -t tmpfs -o size=9m tmpfs /var/lib/dkms;'
                       f'dpkg-reconfigure {PACKAGE}')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('kvm-userfault: building KVM needs 200 MB in '
                      '/var/lib/dkms and there are 9 MB free; free some space,'
                      " then run 'dpkg --configure -a'", done.stdout)


class HereTest(unittest.TestCase):
    """What builds, in a copy of the Debian 13 on this machine."""

    tree: Tree

    @classmethod
    def setUpClass(cls) -> None:
        cls.tree = Tree(PROJECT, installed.NAME).copy('debian-13-test')
        cls.addClassCleanup(cls.tree.remove)

    def here(self, *command: Any) -> str:
        """Run a command there that has to end well; returns what it says."""
        done = self.tree.run(*command)
        self.assertEqual(done.returncode, 0, done.stdout)
        return str(done.stdout)

    def test_untouched(self) -> None:
        """Nothing of ours is in the Debian 13 that others are copied from."""
        tree = debian.Tree(PROJECT)
        self.assertTrue(list(tree.root.glob('usr/src/linux-headers-*')))
        self.assertEqual(list(tree.root.glob('usr/src/kvm-userfault*')), [])

    def test_lintian(self) -> None:
        """That of Debian 13 has nothing to say."""
        tree = debian.Tree(PROJECT, qemu_packages.ENVIRONMENT)
        said = tree.run('setpriv', '--reuid=65534', '--regid=65534',
                        '--clear-groups', 'lintian', '--fail-on',
                        'error,warning',
                        *tree.put('/tmp', deb_kvm.build(PROJECT)))
        self.assertEqual((said.returncode, said.stdout), (0, ''))

    def test_upgrade_interrupted(self) -> None:
        """
        A later version is being installed when the machine ends.  What is left
        can be brought to its end, and has only one of the two.
        """
        before = self.here('dkms', 'status')
        with mock.patch.dict('os.environ', SOURCE_DATE_EPOCH=str(
                int(time.time()) + 86400)):
            later = deb_kvm.build(PROJECT, self.tree.root / 'root/later')
        with subprocess.Popen(
                self.tree.command('dpkg', '-i', f'/root/later/{later.name}'),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                stderr=subprocess.STDOUT) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith('Building initial module'):
                    break
            process.terminate()
        self.here('dpkg', '--configure', '-a')
        version = later.name.split('_')[1]
        after = self.here('dkms', 'status')
        self.assertNotEqual(before, after)
        self.assertRegex(after, r'^kvm-userfault/' + re.escape(version) +
                         r', \S+, x86_64: installed')
        self.assertEqual(after.count('kvm-userfault/'), 1)
        release = stock_kernel.release(PROJECT)
        for name in ('kvm', 'kvm-amd', 'kvm-intel'):
            self.assertTrue(list(Path(self.tree.root, 'lib/modules').glob(
                f'{release}-amd64/updates/dkms/{name}.ko*')))

    def test_build_fails(self) -> None:
        """A compiler that fails leaves Debian's KVM where it is."""
        copy = self.tree.copy('debian-13-broken')
        self.addCleanup(copy.remove)
        kbuild = next(copy.root.glob('usr/src/kvm-userfault-*/Kbuild'))
        kbuild.write_text('$(error broken)\n', encoding='ascii')
        done = copy.run('dpkg-reconfigure', PACKAGE)
        self.assertNotEqual(done.returncode, 0)
        release = f'{stock_kernel.release(PROJECT)}-amd64'
        modules = copy.run('find', f'/lib/modules/{release}', '-name',
                           'kvm.ko*').stdout
        self.assertRegex(modules, f'^{DEBIANS}')
        self.assertNotIn('updates', modules)


if __name__ == '__main__':
    unittest.main(verbosity=2)
