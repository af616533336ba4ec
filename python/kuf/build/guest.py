# SPDX-License-Identifier: GPL-2.0-or-later
"""
The guests that are migrated: Debian's kernels, and an init of our own with
those modules of Debian's that tests use.

Nothing is compressed, since the emulated host would be slow to unpack it; where
there is none, the kernel is as Debian has it.  So it is in kernel/vmlinuz in
any case: UEFI firmware starts a kernel by the stub in front of it.
"""

from dataclasses import dataclass
import lzma
from pathlib import Path
import re
import shutil
import subprocess
from typing import Dict, List, Tuple

from kuf.build import initramfs, stamp
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

INSMOD = re.compile(r'^insmod (\S+)', re.M)


def _package(apt: Apt, base: Base) -> Tuple[str, str]:
    """The package of the kernel itself, and its version."""
    meta = base.value('package')
    found = base.locate(apt, meta, 'binary', base.value('suite').split())
    depends = re.search(r'^Depends: .*?(linux-image-\S+) \(= ([^)]*)\)',
                        apt.show(f'{meta}={found}'), re.M)
    if not depends:
        raise Failure(f'{meta} {found} does not say which kernel it stands '
                      f'for; correct base/{base.name}')
    return depends[1], depends[2]


def _unpack_image(project: Project, root: Path, kernel: Path) -> None:
    """Debian's is a program with the kernel in it."""
    vmlinuz = kernel / 'vmlinuz'
    shutil.copy(next((root / 'boot').glob('vmlinuz-*')), vmlinuz)
    extract = project.build / 'src/linux/scripts/extract-vmlinux'
    if not extract.exists():
        (kernel / 'image').hardlink_to(vmlinuz)
        return
    with open(kernel / 'image', 'wb') as image:
        subprocess.run([extract, vmlinuz], stdout=image, check=True)


def _needed(root: Path, abi: str, module: str) -> List[Path]:
    """The files of a module and of what it needs, in their order."""
    shown = subprocess.run(
        ['modprobe', '-d', root, '-S', abi, '--show-depends', module],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Path(name) for name in INSMOD.findall(shown)]


def _unpack_modules(root: Path, kernel: Path, modules: Tuple[str, ...]) -> None:
    """
    What the tests use and what that needs, and in which order it is loaded: a
    line "NAME: FILE..." each.
    """
    folder = kernel / 'modules'
    folder.mkdir()
    # Where they are depends on the release, and not for these programs.
    if not (root / 'lib').exists():
        (root / 'lib').symlink_to('usr/lib')
    abi = next((root / 'lib/modules').iterdir()).name
    (kernel / 'release').write_text(f'{abi}\n', encoding='ascii')
    subprocess.run(['depmod', '-b', root, abi], check=True)
    order = ''
    for module in modules:
        order += f'{module}:'
        for path in _needed(root, abi, module):
            name = path.name[:-len('.xz')] if path.suffix == '.xz' \
                else path.name
            content = path.read_bytes()
            (folder / name).write_bytes(
                lzma.decompress(content) if name != path.name else content)
            order += f' {name}'
        order += '\n'
    (folder / 'order').write_text(order, encoding='ascii')


def _inputs(project: Project, guest: Guest, base: Base) -> str:
    unpacked = (project.build / 'src/linux').is_dir()
    return stamp.checksum(Path(__file__), base.path, repr(guest),
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
    apt.download(package, 'binary', version, new)
    log = Log(project.log('unpack'))
    root = new / 'root'
    deb = next(new.glob('*.deb'))
    with log.explains(f'{package} could not be unpacked'):
        log.run('dpkg-deb', '-x', deb, root)
    _unpack_image(project, root, new)
    _unpack_modules(root, new, guest.modules)
    stamp.remove(root)
    deb.unlink()
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
