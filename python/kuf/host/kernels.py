# SPDX-License-Identifier: GPL-2.0-or-later
"""
The host's kernels: variants in host/configs, with the series and without.

"base" is the default one without the series, and "base-NAME" a variant.
"""

from pathlib import Path
from typing import List

from kuf.architectures import Architecture
from kuf.build.kernel import Variant, names
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP, require


BASE = 'base'


def kernels() -> List[str]:
    """The names of all that can be built."""
    variants = names(Project(TOP))
    return variants + [BASE if name == 'default' else f'{BASE}-{name}'
                       for name in variants]


def kernel_build(name: str) -> Path:
    """Where a kernel is built."""
    return Variant(Project(TOP), name).output


def kernel_image(name: str, architecture: Architecture) -> Path:
    """What is booted of a kernel."""
    if name not in kernels():
        raise Failure(f"no kernel '{name}'; there are: {', '.join(kernels())}")
    how = 'make' if name == 'default' else f'make kernel-{name}'
    return require(kernel_build(name) / architecture.image,
                   f"kernel '{name}'", how)
