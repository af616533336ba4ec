# SPDX-License-Identifier: GPL-2.0-or-later
"""
The packaged QEMU has all that Debian's has, and is built as that is: what is
different is listed, with reasons, in the file differences.
"""

import re
from typing import List, Set
import unittest

from kuf.build import debian, installed
from kuf.build.install import PROGRAM
from kuf.build.project import Project
from kuf.build.qemu_packages import MODULES, PACKAGE
from kuf.packages.abilities import (
    DIFFERENCES,
    Run,
    abilities,
    read_known,
    unexplained,
)
from kuf.paths import TOP


PROJECT = Project(TOP)
STOCK = 'qemu-system-x86_64'

# What a libvirt that confines QEMU gives it.
SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,' \
    'resourcecontrol=deny'

# Where the program has what the loader reads, and how it is linked.
DYNAMIC = re.compile(r'\((NEEDED|FLAGS|FLAGS_1|BIND_NOW)\) +(.*)$', re.M)
PROTECTED = re.compile(r'^ +(GNU_STACK|GNU_RELRO) .*?([RWE ]{3}) +0x', re.M)


def runner(tree: debian.Tree, program: str) -> Run:
    """Runs one of the two there, as a user without rights."""
    def run(args: List[str], said: str) -> str:
        done = tree.run(
            'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups',
            '--', program, *args, stdin=None, input=said)
        return str(done.stdout)
    return run


class FeaturesTest(unittest.TestCase):
    """Debian's QEMU and ours, side by side."""

    tree: debian.Tree

    @classmethod
    def setUpClass(cls) -> None:
        cls.tree = installed.build(PROJECT)

    def output(self, *command: str) -> str:
        """What a command prints there."""
        return self.tree.output(*command)

    def test_abilities(self) -> None:
        """Options, devices, accelerators, back ends, QMP, …"""
        ours, theirs = (abilities(runner(self.tree, name))
                        for name in (PROGRAM, STOCK))
        for subject, lines in theirs.items():
            self.assertGreater(len(lines), 1, subject)
        known = read_known(DIFFERENCES)
        self.assertEqual(unexplained(ours, theirs, known), [])

    def linked(self, program: str) -> Set[str]:
        """How it was linked, with what."""
        text = self.output('readelf', '-Wdl', f'/usr/bin/{program}')
        return {' '.join(found) for found in
                (*DYNAMIC.findall(text), *PROTECTED.findall(text))}

    def test_built_alike(self) -> None:
        """Libraries and what the compiler does against attacks."""
        ours = self.linked(PROGRAM)
        self.assertIn('BIND_NOW', ' '.join(ours))
        self.assertEqual(ours, self.linked(STOCK))

    def test_modules(self) -> None:
        """The same ones, in a folder of its own."""
        def modules(folder: str) -> Set[str]:
            return set(self.output('ls', folder).split())
        ours = modules(MODULES)
        self.assertIn('block-rbd.so', ours)
        self.assertEqual(ours, modules('/usr/lib/x86_64-linux-gnu/qemu'))

    def test_files(self) -> None:
        """No file has rights that Debian's has not."""
        for name in (PROGRAM, STOCK):
            self.assertEqual(
                self.output('stat', '-c', '%a %U %G', f'/usr/bin/{name}'),
                '755 root root\n')

    def test_sandbox(self) -> None:
        """It confines itself as libvirt asks for, and still answers."""
        text = self.output(
            'sh', '-ec', 'mkfifo /tmp/said; trap "rm /tmp/said" EXIT; '
            '"$1" -machine none -display none -sandbox "$2" -monitor stdio '
            '</tmp/said & exec 3>/tmp/said; echo "info status" >&3; '
            'for try in $(seq 100); do '
            '! grep "^Seccomp:.*2" /proc/$!/status || break; sleep 0.2; done; '
            'echo quit >&3; wait $!',
            'sh', PROGRAM, SANDBOX)
        self.assertIn('VM status: running', text)
        self.assertRegex(text, r'Seccomp:\s+2\n')

    def test_data(self) -> None:
        """It brings no firmware and no keyboard maps, and finds Debian's."""
        listed = self.output('dpkg', '-L', PACKAGE)
        self.assertNotRegex(listed, r'\.(bin|rom|fd|img)$|keymaps')
        for machine in ('q35', 'pc', 'microvm'):
            self.assertEqual(self.output(
                'sh', '-c', 'echo quit | "$1" -machine "$2",accel=tcg -S '
                '-display none -monitor stdio -k de 2>&1 >/dev/null', 'sh',
                PROGRAM, machine), '')


if __name__ == '__main__':
    unittest.main()
