# SPDX-License-Identifier: GPL-2.0-or-later
"""
The package kvm-userfault-dkms: KVM with the series for Debian's stock kernel.
"""

from pathlib import Path
import re
from typing import Optional

from kuf.build import deb, kvm_module, stock_kernel
from kuf.build.project import Project


NAME = 'kvm-userfault-dkms'


def build(project: Project, output: Optional[Path] = None) -> Path:
    """OUTPUT/kvm-userfault-dkms_*.deb, by default in build/deb"""
    release = stock_kernel.release(project)
    upstream = release.partition('+')[0]

    def lay(folder: Path) -> None:
        folder.mkdir()
        kvm_module.lay(project, folder / 'module')

    values = {'RELEASE': release, 'PATTERN': re.escape(release),
              'VERSION': deb.version(project, upstream)}
    return deb.make(project, NAME, values, kvm_module.inputs(project), lay,
                    output)
