# SPDX-License-Identifier: GPL-2.0-or-later
"""
The package kvm-userfault-dkms: KVM with the series for Debian's stock kernel.
"""

from pathlib import Path
import re
from typing import Optional

from kuf.build import (
    deb,
    kvm_module,
    stamp,
    stock_kernel,
)
from kuf.build.project import Project
from kuf.build.tree import KINDS


NAME = 'kvm-userfault-dkms'


def build(project: Project, output: Optional[Path] = None) -> Path:
    """OUTPUT/kvm-userfault-dkms_*.deb, by default in build/deb"""
    release = stock_kernel.release(project)
    upstream = release.partition('+')[0]
    called = deb.version(project, NAME, upstream, 'base/linux',
                         KINDS['linux'].series)

    def write(folder: Path) -> None:
        folder.mkdir()
        kvm_module.lay(project, folder / 'module')
        deb.lay(project, NAME, called,
                f'KVM of Linux {upstream} with KVM userfault.', folder,
                RELEASE=release, PATTERN=re.escape(release))

    sources = stamp.checksum(release, kvm_module.inputs(project))
    return deb.make(project, NAME, called, sources, write, output)
