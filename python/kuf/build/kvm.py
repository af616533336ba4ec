# SPDX-License-Identifier: GPL-2.0-or-later
"""
KVM for other architectures.

Only virt/kvm and arch/ARCH/kvm are compiled, and nothing is linked; what it is
for is that common code fits where nobody runs it.
"""

from pathlib import Path
import re
from typing import IO, List, Optional

from kuf.build import stamp
from kuf.build.compilers import (
    KBUILD,
    compiler,
    jobs,
    make,
)
from kuf.build.project import Project
from kuf.cli import Failure


# Compilers of the architectures that KVM is compiled for and nobody runs.
CROSS = {'arm64': 'aarch64-linux-gnu-', 'riscv': 'riscv64-linux-gnu-'}

SYMBOLS = ('64BIT', 'MMU', 'VIRTUALIZATION', 'KVM', 'WERROR')


def _series_options(source: Path) -> List[str]:
    text = (source / 'virt/kvm/Kconfig').read_text(encoding='utf-8')
    return re.findall(r'^config (HAVE_KVM_USERFAULT.*)$', text, re.M)


def _write_changed(path: Path, text: str) -> None:
    """make looks at the time of a file."""
    if not path.exists() or path.read_text(encoding='utf-8') != text:
        path.write_text(text, encoding='utf-8')


def _check_options(arch: str, options: List[str], selected: bool,
                   config: str) -> None:
    """They are as they should be, or nothing would be proved."""
    for option in options:
        has = f'CONFIG_{option}=y\n' in config
        if has != selected:
            raise Failure(
                f"{arch} came out {'with' if has else 'without'} {option} and "
                f"should be {'with' if selected else 'without'} it; correct "
                'python/kuf/build/kvm.py')


def _build(project: Project, arch: str, source: Path, output: Path,
           selected: bool, log: Optional[IO[bytes]]) -> None:
    options = _series_options(source)
    # An option without a prompt is only had by a symbol that selects it.
    kconfig = (source / 'Kconfig').read_text(encoding='utf-8')
    if selected:
        kconfig += '\nconfig BUILD_KVM\n\tdef_bool KVM\n' + \
            ''.join(f'\tselect {option}\n' for option in options)
    _write_changed(output / 'Kconfig', kconfig)
    config = output / 'kvm.config'
    config.write_text(''.join(f'CONFIG_{symbol}=y\n' for symbol in SYMBOLS),
                      encoding='utf-8')
    args = [f'O={output}', f'ARCH={arch}', f'CROSS_COMPILE={CROSS[arch]}',
            f"CC={compiler(CROSS[arch] + 'gcc')}",
            f"HOSTCC={compiler('gcc')}", f'KBUILD_KCONFIG={output}/Kconfig']
    if not (output / '.config').exists() and not make(
            project, source, *args, 'allnoconfig', output=log,
            KCONFIG_ALLCONFIG=str(config), **KBUILD):
        raise Failure(f"Linux can't be configured for {arch}")
    if not make(project, source, *args, jobs(), f'arch/{arch}/kvm/',
                output=log, **KBUILD):
        raise Failure(f"KVM does not build for {arch} "
                      f"{'with' if selected else 'without'} the series' "
                      "options; the compiler's message is above")
    _check_options(arch, options, selected,
                   (output / '.config').read_text(encoding='utf-8'))


def build(project: Project, arch: str, source: Optional[Path] = None,
          output: Optional[Path] = None,
          log: Optional[IO[bytes]] = None) -> None:
    """
    Build KVM for another architecture.

    Only virt/kvm and arch/ARCH/kvm are compiled, and nothing is linked; what
    it is for is that common code fits where nobody runs it.  Twice: in
    OUTPUT-without as the architecture is, and in OUTPUT-with as if it had
    selected those of the series' options that the tree has.
    """
    source = source or project.build / 'src/linux'
    output = output or project.build / f'kvm-{arch}'
    for name, selected in (('without', False), ('with', True)):
        folder = output.with_name(f'{output.name}-{name}')
        with stamp.lock(folder / '.lock'):
            _build(project, arch, source, folder, selected, log)
