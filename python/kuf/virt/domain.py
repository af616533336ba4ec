# SPDX-License-Identifier: GPL-2.0-or-later
"""
The domain that is migrated: its XML, and what its guest says.

It is what a user has, but for what is tested.  Its kernel is in the folder of
libvirt's images; what the guest does is in guest/stress.c.
"""

from dataclasses import dataclass
import re
from typing import Tuple

from kuf.guest.machine import GuestError, pauses
from kuf.virt.hosts import Host


NAME = 'guest'
MB = 1 << 20
MEMORY = 256
IMAGES = '/var/lib/libvirt/images'
CONSOLE = '/var/log/libvirt/qemu/guest-console.log'
WORK = '/var/log/libvirt/qemu/guest-work.log'
# What QEMU prints there.
LOG = f'/var/log/libvirt/qemu/{NAME}.log'

WRONG = re.compile(r'^.*(?:WRONG|Kernel panic|BUG:).*$', re.M)
UP = 'stress: up'
TICK = re.compile(r'^stress: t=(\d+) pages=(\d+) pass=(\d+)', re.M)

# It leaves the host time for libvirt.
STRESS = 'stress:threads=2:own=16:shared=4:rest=20:tick=500'

XML = '''\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>{maximum}
  <vcpu{vcpus}</vcpu>
  <os{firmware}
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{images}/{kernel}</kernel>
    <initrd>{images}/initramfs</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 nokaslr mitigations=off nowatchdog \
guest.modules=virtio_net guest.console=hvc0 guest.work={work}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='host-passthrough'>
    <feature policy='disable' name='tsc-deadline'/>{cpu}
  </cpu>{memory_backing}
  <devices>{emulator}
    <interface type='bridge'>
      <source bridge='br0'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'><source path='{console}'/></serial>
    <console type='file'>
      <source path='{output}'/>
      <target type='virtio'/>
    </console>{devices}
  </devices>{command_line}
</domain>
'''

# Has KVM userfault even where there is userfaultfd.
EXPLICIT = '''
  <qemu:commandline>
    <qemu:arg value='-global'/>
    <qemu:arg value='migration.postcopy-kvm-userfault=on'/>
  </qemu:commandline>'''


HUGE_PAGES = '''
  <memoryBacking><hugepages/></memoryBacking>'''

# Other processes can be given it.
SHARED = '''
  <memoryBacking>
    <source type='memfd'/><access mode='shared'/>
  </memoryBacking>'''

UEFI = ''' firmware='efi'>
    <firmware><feature enabled='no' name='secure-boot'/></firmware>'''

MORE_MEMORY = '''
  <maxMemory slots='2' unit='MiB'>1024</maxMemory>'''
NODE = f'''
    <numa><cell id='0' cpus='0-3' memory='{MEMORY}' unit='MiB'/></numa>'''

VSOCK = '''
    <vsock model='virtio'><cid auto='yes'/></vsock>'''

VHOST_USER_SOCKET = '/run/vhost-user.sock'
VHOST_USER = f'''
    <interface type='vhostuser'>
      <source type='unix' path='{VHOST_USER_SOCKET}' mode='client'/>
      <model type='virtio'/>
    </interface>'''

VIRTIOFS = '''
    <filesystem type='mount'>
      <driver type='virtiofs'/>
      <source dir='/srv'/>
      <target dir='srv'/>
    </filesystem>'''

# On either side.
MEDIATED = ('83b8f4f2-509f-382f-3c1e-e6bfe0fa1001',
            '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002')
VFIO = f'''
    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source><address uuid='{MEDIATED[0]}'/></source>
    </hostdev>'''

# A module for that memory.
DIMM = '''\
<memory model='dimm'>
  <target><size unit='MiB'>128</size><node>0</node></target>
</memory>
'''


@dataclass(frozen=True)
class Domain:
    """What of it is not always the same."""
    # Nothing has to be set where there is no userfaultfd.
    command_line: str = ''
    memory_backing: str = ''
    # More elements.
    devices: str = ''
    firmware: str = '>'
    kernel: str = 'kernel'
    # Limits of what can be plugged later.
    maximum: str = ''
    vcpus: str = '>2'
    cpu: str = ''
    work: str = STRESS

    def xml(self, emulator: str = '') -> str:
        """As virsh define takes it; EMULATOR is another QEMU than Debian's."""
        if emulator:
            emulator = f'\n    <emulator>{emulator}</emulator>'
        return XML.format(
            emulator=emulator, name=NAME, memory=MEMORY, images=IMAGES,
            console=CONSOLE, output=WORK, command_line=self.command_line,
            memory_backing=self.memory_backing, devices=self.devices,
            firmware=self.firmware, kernel=self.kernel, maximum=self.maximum,
            vcpus=self.vcpus, cpu=self.cpu, work=self.work)


class Guest:
    """The guest that runs in a host."""

    def __init__(self, host: Host):
        self.host = host

    def check(self) -> None:
        """Nothing wrong so far?"""
        for path in (CONSOLE, WORK):
            if wrong := WRONG.search(self.host.read(path)):
                raise GuestError(f'the guest in {self.host.name} says: '
                                 f'{wrong[0].strip()}')

    def starts(self) -> int:
        """How often it has started here."""
        return self.host.read(WORK).count(UP)

    def last(self) -> Tuple[int, int]:
        """Pages that it has checked here, and passes over all of them."""
        found = TICK.findall(self.host.read(WORK))
        return (int(found[-1][1]), int(found[-1][2])) if found else (0, 0)

    def wait_passes(self, number: int) -> None:
        """Wait until all memory was checked some more times."""
        goal = self.last()[1] + number
        for _ in pauses(f'pass {goal} of the guest in {self.host.name}', 0.2):
            self.check()
            if self.last()[1] >= goal:
                break
