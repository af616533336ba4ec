# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is refused, as virsh prints it; the operators' page has the same.
"""

from typing import Dict


# QEMU's own sentence, after what libvirt puts in front of it.
QEMU = ("error: internal error: unable to execute QEMU command "
        "'migrate-set-capabilities': Postcopy is not supported: "
        'postcopy-kvm-userfault does not work with {what}; remove it or switch '
        'postcopy-kvm-userfault off')

REFUSALS: Dict[str, str] = {
    'vhost-vsock': QEMU.format(
        what="device 'vsock0' (vhost-vsock-pci): the host's kernel accesses "
        'guest memory for it'),
    'vhost-user': QEMU.format(
        what="network backend 'hostnet1' (vhost-user): another process "
        'accesses guest memory for it'),
    'vfio': QEMU.format(
        what="device 'hostdev0' (vfio-pci): the host's hardware accesses guest "
        'memory for it'),
    'virtiofs': QEMU.format(
        what="device 'fs0' (vhost-user-fs-pci): another process accesses guest "
        'memory for it'),
}

# Where libvirt refuses what QEMU would.
OLDER: Dict[str, str] = {
    'virtiofs': 'error: Requested operation is not valid: migration with '
                'virtiofs device is not supported',
}


def refusal(name: str, debian: str) -> str:
    """What virsh of that Debian says."""
    if debian == 'libvirt-12' and name in OLDER:
        return OLDER[name]
    return REFUSALS[name]
