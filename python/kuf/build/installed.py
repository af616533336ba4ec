# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian 13 where the packages that are made here are installed, as a user would
install them, with what they stand beside: build/debian-13-installed
"""

from pathlib import Path
from typing import List

from kuf.build import (
    deb_kvm,
    debian,
    qemu_packages,
    stamp,
)
from kuf.build.debian import Tree
from kuf.build.project import Project


NAME = 'debian-13-installed'

# Debian's QEMU with all of its parts.
QEMU = ('qemu-system-x86', 'qemu-system-gui', 'qemu-block-extra',
        'qemu-system-modules-opengl', 'qemu-system-modules-spice')
# Who starts QEMU, and what confines it then.
LIBVIRT = ('apparmor', 'libvirt-clients', 'libvirt-daemon-driver-qemu',
           'libvirt-daemon-system')
# What tests call there.
TOOLS = ('adduser', 'iproute2', 'procps', 'socat', 'udev')

# Where the packages stay.
FOLDER = '/root'


def packages(project: Project) -> List[Path]:
    """All that are made here, made of the sources as they are now."""
    return [deb_kvm.build(project), *qemu_packages.build(project)]


def build(project: Project) -> Tree:
    """Have it, with what is made of the sources now."""
    base = debian.build(project)
    files = packages(project)
    beside = (*QEMU, *LIBVIRT, *TOOLS)
    inputs = stamp.checksum(base.inputs, ' '.join(beside), *files)
    tree = Tree(project, NAME)
    with stamp.lock(project.build / f'.{NAME}.lock'):
        if not tree.is_of(inputs):
            print(f'Installing what is in {files[0].parent} in {tree.root}',
                  flush=True)
            tree = base.copy(NAME)
            said = tree.install(*beside, *tree.put(FOLDER, *files))
            project.log(NAME).write_text(said, encoding='utf-8')
            tree.done(inputs)
    return tree
