#!/usr/bin/env python3
#
# Functional test that migrates a busy Linux guest by postcopy
#
# Copyright (c) 2026 the QEMU KVM userfault authors
#
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guest writes to memory and to two disks all the time, and checks all that
# it reads.  Two variables of the environment say where it is:
#
#   QEMU_TEST_POSTCOPY_KERNEL   a Linux kernel
#   QEMU_TEST_POSTCOPY_INITRD   an initramfs whose init loads the modules of
#                               guest.modules= and does the work of guest.work=
#
# On its first serial port, a line that begins with "NAME:" and has "pass N" or
# "pass=N" says that a work has been through all that it uses, and one with
# "WRONG" that something is not as it was written.

import ctypes
import os
import re
import select
import time

from qemu.qmp import ExecuteError

from qemu_test import QemuSystemTest


MB = 1 << 20

MODULES = 'ahci,sd_mod,virtio_blk'
# By what the console calls it.  An AHCI adapter waits for memory wherever it
# touches it; a virtio device may have its own way.
WORKS = {
    'stress': 'stress:threads=2:own=4:shared=4:tick=500',
    'disk.ahci': 'disk.ahci:sda',
    'disk.virtio': 'disk.virtio:vda',
}

# Bytes a second: in precopy, while pages should be missing, and in the end.
PRECOPY = 8 * MB
SLOW = 256 * 1024
FAST = 256 * MB
# So much of memory is kept back from precopy.
REST = 40 * MB

# Nothing that is waited for takes that long, in seconds.
PATIENCE = 240


def userfaultfd_works():
    """Does Linux give this process one that catches the kernel, too?"""
    if os.access('/dev/userfaultfd', os.R_OK | os.W_OK):
        return True
    syscall = ctypes.CDLL(None).syscall
    fd = syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        return False
    os.close(fd)
    return True


class PostcopyTest(QemuSystemTest):
    """Two QEMUs, of which one has a guest, and the way to the other one."""

    # TCG's nested guests get deadlines that are a minute away.
    cpu = 'host,-tsc-deadline'

    # How often somebody has listened.
    links = 0

    def require_all(self):
        """What a case of this class needs."""
        self.require_accelerator('kvm')
        self.set_machine('q35')
        self.kernel = self.require_file('QEMU_TEST_POSTCOPY_KERNEL')
        self.initrd = self.require_file('QEMU_TEST_POSTCOPY_INITRD')

    def require_file(self, variable):
        """What the environment names."""
        path = os.getenv(variable)
        if not path or not os.access(path, os.R_OK):
            self.skipTest(f'{variable} does not name a file; see the head of '
                          'this test')
        return path

    def require_userfaultfd(self):
        if not userfaultfd_works():
            self.skipTest('this host does not give userfaultfd to this user')

    def kvm_userfault_works(self):
        """
        Do QEMU and the host's KVM say so?  What they say is not what is tested
        here.
        """
        vm = self.get_vm('-accel', 'kvm', '-nodefaults', name='probe')
        vm.launch()
        info = vm.cmd('query-kvm')
        vm.shutdown()
        return info.get('userfault') == 'full'

    def require_kvm_userfault(self):
        if not self.kvm_userfault_works():
            self.skipTest("this QEMU or this host's KVM has no userfault")

    # --- The guest ---

    def create_vm(self, name, *args):
        vm = self.get_vm('-accel', 'kvm', '-nodefaults', '-smp', '2',
                         '-m', '192', '-no-reboot',
                         '-kernel', self.kernel, '-initrd', self.initrd,
                         '-append', 'console=ttyS0 quiet panic=-1 nokaslr '
                         'mitigations=off nowatchdog '
                         f'guest.modules={MODULES} '
                         f"guest.work={','.join(WORKS.values())}", *args,
                         name=name)
        for disk, device in (('ahci', 'ide-hd,bus=ide.0'),
                             ('virtio', 'virtio-blk-pci')):
            path = self.scratch_file(disk)
            with open(path, 'ab') as image:
                image.truncate(2 * MB)
            vm.add_args('-drive', f'if=none,format=raw,id={disk},file={path}',
                        '-device', f'{device},drive={disk}')
        vm.set_console()
        vm.launch()
        vm.console_socket.settimeout(PATIENCE)
        # A QEMU that does not answer has failed.
        vm._qmp.settimeout(PATIENCE)
        return vm

    def launch(self, *args):
        """A source with a guest that works; ARGS are the destination's."""
        self.require_all()
        self.source = self.create_vm('source')
        self.destination = self.create_vm('destination',
                                          '-incoming', 'defer', *args)
        self.wait_passes(self.source)

    def forget_console(self, vm):
        """What the guest says next was not said before."""
        while select.select([vm.console_socket], [], [], 0)[0]:
            self.console_line(vm)

    def console_line(self, vm):
        said = vm.console_file.readline()
        self.assertTrue(said, 'QEMU has ended, or the guest has')
        line = said.decode(errors='replace').strip()
        self.log.debug('guest: %s', line)
        for wrong in ('WRONG', 'Kernel panic', 'BUG:', 'I/O error'):
            self.assertNotIn(wrong, line)
        return line

    def wait_passes(self, vm, count=1):
        """
        From now on, each work goes COUNT times through all that it uses.
        """
        goals = {}
        waiting = set(WORKS)
        self.forget_console(vm)
        while waiting:
            line = self.console_line(vm)
            found = re.match(r'(\S+): (?:.* )?pass[ =](\d+)', line)
            if not found or found[1] not in WORKS:
                continue
            work, number = found[1], int(found[2])
            # The first pass that is seen has begun before.
            if number >= goals.setdefault(work, number + count):
                waiting.discard(work)

    # --- Migration ---

    def set_capabilities(self, vm, **states):
        vm.cmd('migrate-set-capabilities', capabilities=[
            {'capability': name.replace('_', '-'), 'state': state}
            for name, state in states.items()])

    def status(self, vm):
        return vm.cmd('query-migrate').get('status')

    def wait_status(self, vm, *wanted):
        """Wait until its migration is at one of these; returns which."""
        deadline = time.monotonic() + PATIENCE
        while (status := self.status(vm)) not in wanted:
            if status == 'failed' or time.monotonic() > deadline:
                self.fail(f'{vm._name} is not {wanted}: '
                          f"{vm.cmd('query-migrate')}")
            time.sleep(0.1)
        return status

    def new_uri(self):
        """A place where nobody has listened."""
        self.links += 1
        return f'unix:{self.socket_dir().name}/{self.links}'

    def precopy(self):
        """Most of memory is sent, and the guest writes to it again."""
        uri = self.new_uri()
        self.source.cmd('migrate-set-parameters', max_bandwidth=PRECOPY,
                        max_postcopy_bandwidth=SLOW, downtime_limit=1)
        self.destination.cmd('migrate-incoming', uri=uri)
        self.source.cmd('migrate', uri=uri)
        deadline = time.monotonic() + PATIENCE
        while True:
            info = self.source.cmd('query-migrate')
            self.assertIn(info['status'], ('setup', 'active'), info)
            if 0 < info.get('ram', {}).get('remaining', 0) < REST:
                break
            self.assertLess(time.monotonic(), deadline, info)
            time.sleep(0.05)
        self.source.cmd('migrate-set-parameters', max_bandwidth=SLOW)
        self.wait_passes(self.source)

    def switch(self):
        """The guest runs in the destination, and pages are missing."""
        self.source.cmd('migrate-start-postcopy')
        deadline = time.monotonic() + PATIENCE
        while self.destination.cmd('query-status')['status'] != 'running':
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.wait_status(self.source, 'postcopy-active')
        self.assertEqual(self.status(self.destination), 'postcopy-active')

    def exec_oob(self, vm, command, **arguments):
        """The answer, at once: QEMU's main loop may wait for a page."""
        return vm._qmp.cmd_obj({'exec-oob': command, 'id': command,
                                'arguments': arguments})

    def break_link(self):
        """Both sides lose each other, and find each other again."""
        self.source.cmd('migrate-pause')
        self.wait_status(self.source, 'postcopy-paused')
        uri = self.new_uri()
        deadline = time.monotonic() + PATIENCE
        while 'error' in (answer := self.exec_oob(
                self.destination, 'migrate-recover', uri=uri)):
            # It has not noticed yet.
            self.assertIn('paused', answer['error']['desc'])
            self.assertLess(time.monotonic(), deadline, answer)
            time.sleep(0.1)
        self.source.cmd('migrate', uri=uri, resume=True)
        self.wait_status(self.source, 'postcopy-active', 'completed')

    def finish(self):
        """All pages arrive, and the guest goes on."""
        self.source.cmd('migrate-set-parameters', max_postcopy_bandwidth=FAST)
        for vm in (self.source, self.destination):
            self.wait_status(vm, 'completed')
        self.assertEqual(self.source.cmd('query-status')['status'],
                         'postmigrate')
        self.assertEqual(self.destination.cmd('query-status')['status'],
                         'running')
        self.wait_passes(self.destination, 2)

    def check_backend(self, backend):
        """
        Somebody has waited for pages, and the destination, if it tells, says
        who has caught him.
        """
        ram = self.source.cmd('query-migrate')['ram']
        self.assertGreater(ram['postcopy-requests'], 0)
        fault = self.destination.cmd('query-migrate').get('postcopy-fault', {})
        self.assertEqual(fault.get('backend', 'userfaultfd'), backend)

    def migrate(self, backend, breaks=0, preempt=False, **choice):
        """
        From start to end.  CHOICE are capabilities of the destination only.
        """
        self.launch()
        for vm in (self.source, self.destination):
            self.set_capabilities(vm, postcopy_ram=True,
                                  postcopy_preempt=preempt)
        if choice:
            self.set_capabilities(self.destination, **choice)
        self.precopy()
        self.switch()
        for _ in range(breaks):
            self.break_link()
        self.wait_passes(self.destination)
        self.finish()
        self.check_backend(backend)

    def check_source_goes_on(self):
        self.assertEqual(self.source.cmd('query-status')['status'], 'running')
        self.wait_passes(self.source)


class UserfaultfdTest(PostcopyTest):
    """Linux's userfaultfd catches who touches a missing page."""

    def require_all(self):
        super().require_all()
        self.require_userfaultfd()

    def test_plain(self):
        self.migrate('userfaultfd')

    def test_preempt(self):
        self.migrate('userfaultfd', preempt=True)

    def test_recovery(self):
        self.migrate('userfaultfd', breaks=2)

    def test_refusal(self):
        """The destination does not know that it will be postcopy."""
        self.launch()
        self.set_capabilities(self.source, postcopy_ram=True)
        uri = self.new_uri()
        self.destination.cmd('migrate-incoming', uri=uri)
        self.source.cmd('migrate', uri=uri)
        self.destination.wait(timeout=PATIENCE)
        self.assertIn('RAM postcopy is disabled', self.destination.get_log())
        deadline = time.monotonic() + PATIENCE
        while self.status(self.source) != 'failed':
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.check_source_goes_on()


class KvmUserfaultTest(PostcopyTest):
    """KVM catches vCPUs, and QEMU itself."""

    def require_all(self):
        super().require_all()
        self.require_kvm_userfault()

    def test_plain(self):
        self.migrate('kvm-userfault', postcopy_kvm_userfault=True)

    def test_preempt(self):
        self.migrate('kvm-userfault', preempt=True,
                     postcopy_kvm_userfault=True)

    def test_recovery(self):
        self.migrate('kvm-userfault', breaks=2, postcopy_kvm_userfault=True)

    def test_refusal(self):
        """A device whose memory others access: said before anything moves."""
        self.launch('-object', 'memory-backend-ram,id=mem,size=1M,share=on',
                    '-device', 'ivshmem-plain,id=shared,memdev=mem')
        with self.assertRaises(ExecuteError) as refused:
            self.set_capabilities(self.destination, postcopy_ram=True,
                                  postcopy_kvm_userfault=True)
        self.assertRegex(str(refused.exception),
                         '^Postcopy is not supported: postcopy-kvm-userfault '
                         "does not work with device 'shared'.*[^\n]$")
        self.check_source_goes_on()


class AutomaticTest(PostcopyTest):
    """Nothing says who is to catch accesses."""

    def test_choice(self):
        """userfaultfd where it works, else KVM userfault."""
        if userfaultfd_works():
            self.migrate('userfaultfd')
            return
        self.require_all()
        self.require_kvm_userfault()
        self.migrate('kvm-userfault')
        self.destination.shutdown()
        self.assertIn('postcopy uses KVM userfault instead',
                      self.destination.get_log())

    def test_refusal(self):
        """Neither works, and the reasons for both are told."""
        if userfaultfd_works():
            self.skipTest('userfaultfd works')
        self.launch('-object', 'memory-backend-ram,id=mem,size=1M,share=on',
                    '-device', 'ivshmem-plain,id=shared,memdev=mem')
        with self.assertRaises(ExecuteError) as refused:
            self.set_capabilities(self.destination, postcopy_ram=True)
        self.assertRegex(str(refused.exception),
                         '^Postcopy is not supported: .*[Uu]serfaultfd')
        self.check_source_goes_on()


if __name__ == '__main__':
    QemuSystemTest.main()
