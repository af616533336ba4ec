# SPDX-License-Identifier: GPL-2.0-or-later
"""
Devices that a guest is busy with while it is migrated, and their network.
"""

from pathlib import Path
import shutil
import subprocess
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf.guest.echo import ECHO_PORT


MB = 1 << 20

BRIDGE = 'oracle'
BRIDGE_ADDRESS = '10.0.3.2'

# In arguments, {disk} and {disk2} are files, {serial} is a socket's path,
# {side} the side's name and {port} a free port of this machine.
BLOCK = ['-drive', 'if=none,format=raw,id=disk,file={disk}', '-device']
SLIRP = ['-netdev', 'user,id=net', '-device']
TAP = ['-netdev', 'tap,id=net,ifname={side},script=no,downscript=no,vhost=on',
       '-device']
BALLOON = ['-chardev', 'socket,id=port,path={serial},server=on,wait=off',
           '-serial', 'chardev:port',
           '-device', 'virtio-balloon-pci,free-page-reporting=on']
SLIRP_WORK = f'net:eth0:10.0.2.15:10.0.2.2:{ECHO_PORT}'
TAP_WORK = f'net:eth0:10.0.3.15:{BRIDGE_ADDRESS}:{ECHO_PORT}'


# Firmware that keeps its variables to itself: in memory for system management
# mode, and in flash that can be written in that mode only.
OVMF = Path('/usr/share/OVMF')
OVMF_CODE = OVMF / 'OVMF_CODE_4M.secboot.fd'
OVMF_VARIABLES = OVMF / 'OVMF_VARS_4M.fd'
UEFI = ['-global', 'driver=cfi.pflash01,property=secure,value=on',
        '-global', 'ICH9-LPC.disable_s3=1',
        '-drive', 'if=pflash,unit=0,format=raw,readonly=on,'
        f'file={OVMF_CODE}',
        '-drive', 'if=pflash,unit=1,format=raw,file={disk}']


class Device(NamedTuple):
    """
    A device, the guest's drivers for it, and what it does with it.

    Its disk has that many megabytes, or is a copy of a file.  The guest boots
    a kernel in build/guest/kernel.
    """
    args: List[str]
    work: str
    modules: str = ''
    append: str = ''
    machine: str = 'q35'
    kernel: str = 'image'
    disk: float = 4.0
    template: Optional[Path] = None
    dma: bool = True
    vhost: bool = False
    smm: bool = False
    # Puts off what memory is missing for.
    virtio: bool = False
    # The guest frees memory that has not arrived.
    report: bool = False


DEVICES: Dict[str, Device] = {
    'none': Device([], '', dma=False),
    'virtio-blk': Device([*BLOCK, 'virtio-blk-pci,drive=disk'],
                         'disk:vda', 'virtio_blk', virtio=True),
    'virtio-blk-packed': Device([*BLOCK, 'virtio-blk-pci,drive=disk,packed=on'],
                                'disk:vda', 'virtio_blk', virtio=True),
    'virtio-blk-iothread': Device(['-object', 'iothread,id=thread', *BLOCK,
                                   'virtio-blk-pci,drive=disk,'
                                   'iothread=thread'],
                                  'disk:vda', 'virtio_blk', virtio=True),
    'virtio-scsi': Device([*BLOCK[:2], '-device', 'virtio-scsi-pci',
                           '-device', 'scsi-hd,drive=disk'],
                          'disk:sda', 'virtio_scsi,sd_mod', virtio=True),
    'ahci': Device([*BLOCK, 'ide-hd,drive=disk,bus=ide.0'],
                   'disk:sda', 'ahci,sd_mod'),
    'ide-dma': Device([*BLOCK, 'ide-hd,drive=disk,bus=ide.0'],
                      'disk:sda', 'ata_piix,sd_mod', machine='pc'),
    'ide-pio': Device([*BLOCK, 'ide-hd,drive=disk,bus=ide.0'],
                      'disk:sda:500', 'ata_piix,sd_mod', 'libata.dma=0',
                      machine='pc', disk=1 / 64, dma=False),
    'usb-storage': Device([*BLOCK[:2], '-device', 'qemu-xhci',
                           '-device', 'usb-storage,drive=disk'],
                          'disk:sda', 'xhci_pci,usb_storage,sd_mod',
                          'usb_storage.delay_use=0'),
    'virtio-net': Device([*SLIRP, 'virtio-net-pci,netdev=net'],
                         SLIRP_WORK, 'virtio_net', virtio=True),
    'free-page-reporting': Device([*BALLOON], 'report:64:ttyS1',
                                  'virtio_balloon', dma=False, report=True),
    'free-page-reporting-packed': Device([*BALLOON[:-1],
                                          BALLOON[-1] + ',packed=on'],
                                         'report:64:ttyS1', 'virtio_balloon',
                                         dma=False, report=True),
    'vhost-net': Device([*TAP, 'virtio-net-pci,netdev=net'],
                        TAP_WORK, 'virtio_net', vhost=True, virtio=True),
    'e1000': Device([*SLIRP, 'e1000,netdev=net'], SLIRP_WORK, 'e1000'),
    'vga': Device(['-device', 'VGA'], 'vga', dma=False),
    'uefi-smm': Device(UEFI, 'efivars', 'efivarfs', machine='q35,smm=on',
                       kernel='vmlinuz', template=OVMF_VARIABLES, dma=False,
                       smm=True),
}


DISKS = ('disk', 'disk2')


def create_disks(job: Path, device: Device) -> None:
    """Two of them, which are the same for both sides."""
    for name in DISKS:
        if device.template:
            shutil.copyfile(device.template, job / name)
            continue
        with open(job / name, 'wb') as disk:
            disk.truncate(int(device.disk * MB))


def link_disks(job: Path, other: Path) -> None:
    """Those of another job, for one more side."""
    for name in DISKS:
        (job / name).symlink_to((other / name).resolve())


def create_network() -> None:
    """A bridge with a tap device for each side."""
    if Path('/sys/class/net', BRIDGE).exists():
        return
    commands = [f'link add {BRIDGE} type bridge',
                f'addr add {BRIDGE_ADDRESS}/24 broadcast + dev {BRIDGE}',
                f'link set {BRIDGE} up']
    for side in ('source', 'destination'):
        commands += [f'tuntap add {side} mode tap',
                     f'link set {side} master {BRIDGE}',
                     f'link set {side} up']
    for command in commands:
        subprocess.run(['ip', *command.split()], check=True)
