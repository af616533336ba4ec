# SPDX-License-Identifier: GPL-2.0-or-later
"""
The host's kernels: variants in host/configs, with the series and without.

"base" is the default one without the series, and "base-NAME" a variant.
"""

from pathlib import Path
from typing import List

from kuf.architectures import Architecture
from kuf.cli import Failure
from kuf.paths import (
    BUILD,
    TOP,
    UNPATCHED,
    require,
)


CONFIGS = TOP / 'host/configs'
BASE = 'base'


def kernels() -> List[str]:
    """The names of all that can be built."""
    variants = sorted(path.stem for path in CONFIGS.iterdir())
    return variants + [BASE if name == 'default' else f'{BASE}-{name}'
                       for name in variants]


def kernel_build(name: str) -> Path:
    """Where a kernel is built."""
    if name == BASE:
        return UNPATCHED / 'linux-default'
    if name.startswith(f'{BASE}-'):
        return UNPATCHED / f"linux-{name[len(BASE) + 1:]}"
    return BUILD / f'linux-{name}'


def kernel_image(name: str, architecture: Architecture) -> Path:
    """What is booted of a kernel."""
    if name not in kernels():
        raise Failure(f"no kernel '{name}'; there are: {', '.join(kernels())}")
    how = 'make' if name == 'default' else f'make kernel-{name}'
    return require(kernel_build(name) / architecture.image,
                   f"kernel '{name}'", how)
