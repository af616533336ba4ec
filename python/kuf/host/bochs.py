# SPDX-License-Identifier: GPL-2.0-or-later
"""
A host on Bochs, which emulates VMX; its time counts instructions.

It sees nothing of the caller's file system: all that a command needs is packed
around it, standard input as well.
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import List, Optional

from kuf.build import initramfs
from kuf.build.project import Project
from kuf.emulators import EMULATORS
from kuf.host.host import Host
from kuf.host.job import Job, write_script
from kuf.host.packing import pack_files
from kuf.host.streams import copy_out
from kuf.paths import TOP, require
from kuf.process import WITH_US


# Firmware, and what boots a kernel from an ISO: Debian's packages.
BIOS = Path('/usr/share/bochs/BIOS-bochs-latest')
VGABIOS = Path('/usr/share/vgabios/vgabios.bin')
ISOLINUX = Path('/usr/lib/ISOLINUX/isolinux.bin')
LDLINUX = Path('/usr/lib/syslinux/modules/bios/ldlinux.c32')

# Instructions in a second of the host's time.  Its TSC ticks at that rate, and
# not at the one of which CPUID tells.
IPS = 100_000_000

# The display is none; what can't be emulated ends the host.
BOCHSRC = '''\
config_interface: textconfig
display_library: nogui
cpu: model=corei7_skylake_x, count={smp}, ips={ips}, reset_on_triple_fault=0, \
ignore_bad_msrs=1
memory: guest={mem}, host={mem}
romimage: file={bios}, options=fastboot
vgaromimage: file={vgabios}
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={folder}/host.iso, status=inserted
boot: cdrom
clock: sync=none, time0=1767225600
com1: enabled=1, mode=file, dev={folder}/console.log
com2: enabled=1, mode=file, dev=/dev/fd/{output}
magic_break: enabled=0
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
log: {folder}/bochs.log
'''

ISOLINUX_CFG = '''\
default linux
prompt 0
timeout 1
label linux
 kernel bzimage
 append initrd=initrd {append}
'''

# What init says at the end, see host/intel/init.
REPORT = re.compile(r'^host/intel/run: ended with (\d+ \d+)$', re.M)
# What is on the console and not the command's.
NOT_SAID = re.compile(r'\[ *\d+\.\d+\]|host/intel/run: ended')


class BochsHost(Host):
    """A host whose processor is Intel's."""

    prefix = 'intel'

    def __init__(self, job: Job, files: List[Path]):
        """
        @param files: what the command finds at the same place
        """
        self.files = files
        self.bios, self.vgabios, self.isolinux, self.ldlinux = (
            require(path, path.name, './configure')
            for path in (BIOS, VGABIOS, ISOLINUX, LDLINUX))
        super().__init__(job, EMULATORS['bochs'])
        self.process: Optional['subprocess.Popen[bytes]'] = None

    def write_initramfs(self, target: Path) -> None:
        """The host's file system, all of it."""
        root = self.folder / 'root'
        initramfs.lay_base(Project(TOP), root, TOP / 'host/intel/init',
                           self.kernel.early)
        (root / 'job').mkdir()
        write_script(root / 'job/command', self.job)
        with open(root / 'job/stdin', 'wb') as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        pack_files(root, self.files)
        # It is read once, and there is much of it.
        target.write_bytes(initramfs.compress(root, 1))
        shutil.rmtree(root)

    def write_iso(self) -> None:
        """What the host boots from."""
        iso = self.folder / 'iso'
        iso.mkdir()
        for path in (self.isolinux, self.ldlinux):
            shutil.copy(path, iso)
        shutil.copy(self.kernel.vmlinuz or self.kernel.image,
                    iso / 'bzimage')
        self.write_initramfs(iso / 'initrd')
        append = self.command_line(
            f'console={self.emulator.architecture.console},115200', 'reboot=t',
            f'tsc_early_khz={IPS // 1000}')
        (iso / 'isolinux.cfg').write_text(ISOLINUX_CFG.format(append=append),
                                          encoding='ascii')
        subprocess.run(
            ['xorriso', '-as', 'mkisofs', '-quiet',
             '-o', self.folder / 'host.iso', '-b', 'isolinux.bin',
             '-c', 'boot.cat', '-no-emul-boot', '-boot-load-size', '4',
             '-boot-info-table', iso],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(iso)

    def start(self, output: int) -> 'subprocess.Popen[bytes]':
        """Start it; what the command writes goes to a file descriptor."""
        config = self.folder / 'bochsrc'
        config.write_text(BOCHSRC.format(
            smp=self.job.smp, ips=IPS, mem=self.job.memory, output=output,
            folder=self.folder, bios=self.bios, vgabios=self.vgabios),
            encoding='utf-8')
        # pylint: disable-next=consider-using-with
        return subprocess.Popen(
            [*WITH_US, self.binary, '-q', '-f', config], cwd=self.folder,
            pass_fds=[output], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def attend(self) -> Optional[bytes]:
        """Its standard output is the caller's."""
        self.write_iso()
        ours, bochs = os.pipe()
        self.process = self.start(bochs)
        os.close(bochs)
        output = copy_out(lambda: os.read(ours, 65536), sys.stdout.buffer)
        try:
            # The status says nothing, it is always 1.
            self.process.wait(self.job.timeout or None)
        except subprocess.TimeoutExpired:
            return None
        output.join()
        report = REPORT.search(self.console())
        return report[1].encode() if report else b''

    def kill(self) -> None:
        """End Bochs."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def emulator_log(self) -> str:
        """That of Bochs."""
        return self.log('bochs.log')

    def aside(self) -> str:
        """The command's standard error is the console."""
        return ''.join(f'{line}\n' for line in self.console().splitlines()
                       if line and not NOT_SAID.match(line))
