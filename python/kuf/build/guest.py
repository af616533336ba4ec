# SPDX-License-Identifier: GPL-2.0-or-later
"""
The guests that are migrated: Debian's kernels, and an init of our own with
those modules of Debian's that tests use.

Nothing is compressed, since the emulated host would be slow to unpack it; where
there is none, the kernel is as Debian has it.  So it is in kernel/vmlinuz in
any case: UEFI firmware starts a kernel by the stub in front of it.
"""

from dataclasses import dataclass
from pathlib import Path
import shutil
import subprocess
from typing import Dict, Tuple

from kuf.build import initramfs, kernel_package, stamp
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.compilers import compiler, environment
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


@dataclass(frozen=True)
class Guest:
    """A guest: the kernel in base/BASE, and which modules it loads."""

    base: str
    modules: Tuple[str, ...]


# By their folders in build/.
GUESTS: Dict[str, Guest] = {
    'guest': Guest('guest-kernel', (
        'ahci', 'ata_piix', 'e1000', 'efivarfs', 'sd_mod', 'usb_storage',
        'virtio_balloon', 'virtio_blk', 'virtio_gpu', 'virtio_net',
        'virtio_scsi', 'xhci_pci')),
    'guest-cloud': Guest('guest-kernel-cloud', ('virtio_blk', 'virtio_net')),
}


def _package(apt: Apt, base: Base) -> Tuple[str, str]:
    """The package of the kernel itself, and its version."""
    meta = base.value('package')
    found = base.locate(apt, meta, 'binary', base.value('suite').split())
    return kernel_package.stands_for(apt, meta, found)


def _unpack_image(project: Project, root: Path, kernel: Path) -> None:
    """As Debian has it, and as it is started elsewhere."""
    shutil.copy(next((root / 'boot').glob('vmlinuz-*')), kernel / 'vmlinuz')
    kernel_package.unpack_image(project, root, kernel / 'image')


def _unpack_modules(root: Path, kernel: Path, modules: Tuple[str, ...]) -> None:
    """
    What the tests use and what that needs, and in which order it is loaded: a
    line "NAME: FILE..." each.
    """
    folder = kernel / 'modules'
    folder.mkdir()
    release = kernel_package.index_modules(root)
    (kernel / 'release').write_text(f'{release}\n', encoding='ascii')
    order = ''
    for module in modules:
        files = [kernel_package.copy_module(path, folder) for path in
                 kernel_package.needed(root, release, module)]
        order += f"{module}: {' '.join(files)}\n"
    (folder / 'order').write_text(order, encoding='ascii')


def _inputs(project: Project, guest: Guest, base: Base) -> str:
    unpacked = (project.build / 'src/linux').is_dir()
    return stamp.checksum(Path(__file__), Path(kernel_package.__file__),
                          base.path, repr(guest),
                          'unpacked' if unpacked else '')


def _prepare_kernel(project: Project, guest: Guest, folder: Path) -> None:
    """Have FOLDER/kernel."""
    base = Base(project, guest.base)
    inputs = _inputs(project, guest, base)
    if stamp.is_at(folder / 'kernel/.inputs', inputs):
        return
    stamp.need_space(project.build, 1000, "the guest's kernel")
    apt = Apt(project)
    package, version = _package(apt, base)
    print(f'Fetching {package} {version}', flush=True)
    new = folder / '.kernel'
    stamp.remove(new)
    new.mkdir(parents=True)
    root = kernel_package.unpack(apt, Log(project.log('unpack')),
                                 (package, version), new)
    _unpack_image(project, root, new)
    _unpack_modules(root, new, guest.modules)
    stamp.remove(root)
    stamp.put(new / '.inputs', inputs)
    stamp.replace(new, folder / 'kernel')


def _build_initramfs(project: Project, folder: Path) -> None:
    root = folder / '.root'
    stamp.remove(root)
    for name in ('dev', 'proc', 'sys'):
        (root / name).mkdir(parents=True)
    shutil.copytree(folder / 'kernel/modules', root / 'modules')
    sources = [project.top / 'guest' / name
               for name in ('init.c', 'stress.c')]
    if subprocess.run([*compiler('gcc').split(), '-static', '-pthread', '-O2',
                       '-Wall', '-Werror', '-o', root / 'init', *sources],
                      env=environment(project), check=False).returncode:
        raise Failure("the guest's init does not build; the compiler's message"
                      ' is above')
    stamp.write(folder / 'initramfs.cpio', initramfs.pack(root))
    stamp.remove(root)


def build(project: Project, name: str) -> None:
    """build/NAME/kernel/image and build/NAME/initramfs.cpio"""
    folder = project.build / name
    with stamp.lock(folder / '.lock'):
        _prepare_kernel(project, GUESTS[name], folder)
        _build_initramfs(project, folder)
