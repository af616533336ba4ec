# SPDX-License-Identifier: GPL-2.0-or-later
"""
The host's kernel as Debian built it: build/linux-stock, with the series' KVM as
modules, and build/linux-base-stock, with Debian's own.

It is the kernel of the package that the base is from, for the modules are for
that release only.  Where it runs, its initramfs loads what a kernel of
host/configs has built in; all its modules are beside it.
"""

from dataclasses import dataclass
from pathlib import Path
import shutil

from kuf.build import (
    initramfs,
    kernel_package,
    kvm_module,
    stamp,
)
from kuf.build.apt import Apt
from kuf.build.compilers import (
    KBUILD,
    compiler,
    jobs,
    make,
)
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.build.tree import Tree
from kuf.cli import Failure


PATCHED = 'stock'
BASE = 'base-stock'
NAMES = (PATCHED, BASE)

FLAVOUR = 'amd64'

# What host/mounts loads: what the host itself needs, and what makes devices
# that programs look for.
HOST_MODULES = ('virtio_pci', 'virtio_console', '9pnet_virtio', '9p',
                'overlay', 'tun', 'vhost_net', 'vhost_vsock', 'zram')
# After that, KVM for the processor that there is.
KVM_MODULES = ('kvm_amd', 'kvm_intel')

# The kernel looks for this one when it wants a module.  All are in the caller's
# file system, which covers the initramfs: from there /.. is what covers it.
MODPROBE = '''\
#!/bin/busybox sh
exec /bin/busybox chroot /.. /usr/sbin/modprobe "$@"
'''


@dataclass(frozen=True)
class Stock:
    """One of the two."""

    project: Project
    name: str

    @property
    def output(self) -> Path:
        """Where it is."""
        return self.project.build / f'linux-{self.name}'

    @property
    def image(self) -> Path:
        """What is booted where it needs not be unpacked."""
        return self.output / 'image'

    @property
    def vmlinuz(self) -> Path:
        """What a boot loader takes."""
        return self.output / 'vmlinuz'

    @property
    def initramfs(self) -> Path:
        """That of the emulated host."""
        return self.output / 'initramfs.cpio.gz'

    @property
    def early(self) -> Path:
        """What that has more than a host without modules."""
        return self.output / 'early'

    @property
    def modules(self) -> Path:
        """All its modules: what belongs in /lib/modules/RELEASE."""
        return next((self.output / 'root/lib/modules').iterdir())


def package_version(project: Project) -> str:
    """Debian's version of the base; no other kernel takes the modules."""
    tree = Tree(project, 'linux')
    tree.require()
    name, _, version = tree.subject('base').partition(' ')
    if name != 'linux' or ' ' in version.strip():
        raise Failure("build/src/linux is not Debian's package but "
                      f"'{version}', of which Debian has no kernel; run "
                      './configure --linux-source=')
    return version


def _folder(project: Project) -> Path:
    """What is Debian's."""
    return project.build / 'stock-kernel'


def _fetch(project: Project) -> Path:
    """Debian's packages, unpacked; they stay as long as the base does."""
    folder = _folder(project)
    version = package_version(project)
    inputs = f'{version} {FLAVOUR}'
    if stamp.is_at(folder / '.inputs', inputs):
        return folder
    stamp.need_space(project.build, 1000, "Debian's kernel")
    apt = Apt(project)
    suites = Tree(project, 'linux').base.value('suite').split()
    upstream = version.partition('-')[0]
    found = None
    for suite in suites:
        found = apt.locate(f'linux-image-{FLAVOUR}', 'binary', upstream,
                           [suite])
        if found == version:
            break
    else:
        raise Failure(f'no kernel {version} in {" ".join(suites)} of this '
                      "machine's Debian mirror, and build/src/linux is that; "
                      'update base/linux, see CONTRIBUTING.md')
    new = folder.with_name('.' + folder.name)
    stamp.remove(new)
    new.mkdir(parents=True)
    for kind in ('image', 'headers'):
        package = kernel_package.stands_for(apt, f'linux-{kind}-{FLAVOUR}',
                                            version)
        print(f"Fetching {' '.join(package)}", flush=True)
        root = kernel_package.unpack(apt, Log(project.log('unpack')), package,
                                     new)
    kernel_package.unpack_image(project, root, new / 'image')
    release = kernel_package.index_modules(root)
    (new / 'release').write_text(f'{release}\n', encoding='ascii')
    stamp.put(new / '.inputs', inputs)
    stamp.replace(new, folder)
    return folder


def release(project: Project) -> str:
    """What Debian's kernel of the base calls itself, without the flavour."""
    text = (_fetch(project) / 'release').read_text(encoding='ascii').strip()
    return text[:-len(f'-{FLAVOUR}')]


def _prepare(project: Project, folder: Path) -> Path:
    """
    Debian's kernel as if it had just been built, as far as modules need that:
    its headers' programs are for Debian 13 only.
    """
    prepared = folder / 'build'
    source = Tree(project, 'linux').path
    name = f'{release(project)}-{FLAVOUR}'
    headers = folder / f'root/usr/src/linux-headers-{name}'
    inputs = stamp.checksum(headers / '.config', headers / 'Module.symvers',
                            str(source))
    if stamp.is_at(prepared / '.inputs', inputs):
        return prepared
    stamp.remove(prepared)
    prepared.mkdir()
    for file in ('.config', 'Module.symvers'):
        shutil.copy(headers / file, prepared)
    cc = compiler('gcc')
    log = Log(folder / 'prepare.log')
    with open(log.path, 'wb') as output:
        if not make(project, source, f'O={prepared}', f'CC={cc}',
                    f'HOSTCC={cc}', f'KERNELRELEASE={name}', jobs(),
                    'olddefconfig', 'modules_prepare', output=output,
                    **KBUILD):
            raise Failure(f"kernel '{name}' can't be prepared for modules; see "
                          f'{log.path}')
    stamp.put(prepared / '.inputs', inputs)
    return prepared


def _kvm(project: Project, folder: Path) -> Path:
    """The series' KVM for it."""
    kvm = folder / 'kvm'
    inputs = stamp.checksum(kvm_module.inputs(project),
                            folder / 'build/.inputs')
    if stamp.is_at(kvm / '.inputs', inputs):
        return kvm
    new = folder / '.kvm'
    stamp.remove(new)
    kvm_module.lay(project, new)
    stamp.replace(new, kvm)
    kvm_module.build(project, folder / 'build',
                     f'{release(project)}-{FLAVOUR}', kvm, folder / 'kvm.log')
    stamp.put(kvm / '.inputs', inputs)
    return kvm


def _lay_early(root: Path, early: Path) -> None:
    """What the initramfs has of it, and in which order."""
    name = next((root / 'lib/modules').iterdir()).name
    folder = early / 'lib/modules' / name
    folder.mkdir(parents=True)
    for module in (*HOST_MODULES, *KVM_MODULES):
        for path in kernel_package.needed(root, name, module):
            kernel_package.copy_module(path, folder)
    for file in ('modules.builtin', 'modules.builtin.modinfo',
                 'modules.order'):
        shutil.copy(root / 'lib/modules' / name / file, folder)
    kernel_package.index_modules(early)
    (early / 'modules').write_text(' '.join(HOST_MODULES) + '\n',
                                   encoding='ascii')
    modprobe = early / 'sbin/modprobe'
    modprobe.parent.mkdir()
    modprobe.write_text(MODPROBE, encoding='ascii')
    modprobe.chmod(0o755)


def _lay(project: Project, stock: Stock) -> None:
    """Have it in its place."""
    folder = _folder(project)
    patched = stock.name == PATCHED
    inputs = stamp.checksum(Path(__file__), folder / '.inputs',
                            folder / 'kvm/.inputs' if patched else '')
    if stamp.is_at(stock.output / '.inputs', inputs):
        return
    new = stock.output.with_name(f'.{stock.output.name}')
    stamp.remove(new)
    new.mkdir()
    (new / 'image').hardlink_to(folder / 'image')
    (new / 'vmlinuz').hardlink_to(
        next((folder / 'root/boot').glob('vmlinuz-*')))
    modules = new / 'root/lib/modules'
    shutil.copytree(folder / 'root/usr/lib/modules', modules, symlinks=True,
                    copy_function=lambda source, target:
                    Path(target).hardlink_to(source))
    if patched:
        kvm_module.install(folder / 'kvm',
                           next(modules.iterdir()) / 'updates')
    kernel_package.index_modules(new / 'root')
    _lay_early(new / 'root', new / 'early')
    stamp.put(new / '.inputs', inputs)
    stamp.replace(new, stock.output)


def build(project: Project, name: str) -> None:
    """build/linux-NAME, for host/run --kernel NAME"""
    with stamp.lock(project.build / '.stock-kernel.lock'):
        stock = Stock(project, name)
        folder = _fetch(project)
        if name == PATCHED:
            _prepare(project, folder)
            _kvm(project, folder)
        _lay(project, stock)
        initramfs.build(project, stock.initramfs, stock.early)
