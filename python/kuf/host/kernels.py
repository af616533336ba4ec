# SPDX-License-Identifier: GPL-2.0-or-later
"""
The host's kernels: variants in host/configs, with the series and without, and
Debian's own, with the series' KVM and without.

"base" is the default one without the series, and "base-NAME" a variant.
"""

from pathlib import Path
from typing import List, NamedTuple, Optional

from kuf.architectures import Architecture
from kuf.build import stock_kernel
from kuf.build.kernel import Variant, names
from kuf.build.project import Project
from kuf.build.stock_kernel import Stock
from kuf.cli import Failure
from kuf.paths import BUILD, TOP, require


BASE = 'base'


class HostKernel(NamedTuple):
    """What is booted."""
    image: Path
    initramfs: Path
    # What the initramfs begins with, beside busybox.
    early: Optional[Path] = None
    # What belongs in the host's /lib/modules/RELEASE.
    modules: Optional[Path] = None
    # What a boot loader takes, if not the image.
    vmlinuz: Optional[Path] = None


def kernels() -> List[str]:
    """The names of all that can be built."""
    variants = names(Project(TOP))
    return [*variants, *(BASE if name == 'default' else f'{BASE}-{name}'
                         for name in variants), *stock_kernel.NAMES]


def _stock(name: str) -> HostKernel:
    stock = Stock(Project(TOP), name)
    require(stock.initramfs, f"kernel '{name}'", f'make kernel-{name}')
    return HostKernel(stock.image, stock.initramfs, stock.early, stock.modules,
                      stock.vmlinuz)


def host_kernel(name: str, architecture: Architecture) -> HostKernel:
    """A kernel, as it was built."""
    if name not in kernels():
        raise Failure(f"no kernel '{name}'; there are: {', '.join(kernels())}")
    if name in stock_kernel.NAMES:
        return _stock(name)
    how = 'make' if name == 'default' else f'make kernel-{name}'
    image = require(Variant(Project(TOP), name).output / architecture.image,
                    f"kernel '{name}'", how)
    return HostKernel(image, BUILD / 'host/initramfs.cpio.gz')
