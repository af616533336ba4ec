# SPDX-License-Identifier: GPL-2.0-or-later
"""
How this project configures QEMU, and the one without the fork.
"""

from pathlib import Path
from typing import Sequence

from kuf import process
from kuf.build import stamp, tools
from kuf.build.compilers import compiler, environment
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.build.tree import Tree
from kuf.cli import Failure


# Firmware that Debian takes out of QEMU's source is in packages of its own.
FIRMWARE = ('/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu')

ENABLED = ('kvm', 'tcg', 'slirp', 'linux-aio', 'pixman', 'fdt=system', 'attr',
           'cap-ng', 'gnutls', 'rdma', 'replication', 'seccomp', 'virtfs',
           'vhost-kernel', 'vhost-net', 'vhost-user', 'vhost-vdpa', 'werror')


def _link_firmware(folder: Path) -> None:
    """
    A QEMU that runs where it was built looks for all paths below qemu-bundle.
    """
    for name in FIRMWARE:
        link = folder / 'qemu-bundle' / name[1:]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(name)


def configure(project: Project, source: Path, folder: Path, log: Log) -> None:
    """QEMU's configure, in an empty folder."""
    base = Git(source)('log', '-1', '--format=%s', 'base')
    log.run(source / 'configure', f'--python={tools.python(project)}',
            f"--cc={compiler('cc')}", '--target-list=x86_64-softmmu',
            '--without-default-features', '--disable-download',
            '--disable-install-blobs', f"--firmwarepath={':'.join(FIRMWARE)}",
            f'--with-pkgversion=kvm-userfault on {base}',
            *(f'--enable-{feature}' for feature in ENABLED),
            cwd=folder, env=environment(project))
    _link_firmware(folder)


def _inputs(project: Project, source: Path) -> str:
    """
    What a configured QEMU depends on, but for what its own build notices.
    """
    return stamp.checksum(
        f"{project.top} {tools.python(project)} {compiler('cc')} ",
        Git(source)('rev-parse', 'base'), Path(__file__))


def configure_once(project: Project, source: Path, root: Path,
                   what: str) -> None:
    """Have ROOT/qemu configured as here."""
    folder = root / 'qemu'
    inputs = _inputs(project, source)
    if stamp.is_at(folder / '.inputs', inputs):
        return
    print(f'Configuring {what}', flush=True)
    stamp.remove(folder)
    folder.mkdir(parents=True)
    log = Log(root / 'qemu.log')
    with log.explains("QEMU's configure failed"):
        configure(project, source, folder, log)
    stamp.put(folder / '.inputs', inputs)


def _ninja(project: Project, folder: Path, targets: Sequence[str],
           what: str) -> None:
    if process.run(['ninja', '-C', folder, *targets],
                   env=environment(project)):
        raise Failure(f"{what} does not build; the compiler's message is "
                      'above')


def build(project: Project, targets: Sequence[str]) -> None:
    """Build some of what QEMU's own build has, in build/qemu."""
    _ninja(project, project.build / 'qemu', targets, 'QEMU')


def build_base(project: Project) -> None:
    """
    Build QEMU without the fork: build/base-build/qemu/qemu-system-x86_64

    From a work tree of the base, configured as build/qemu is, so that the
    patches are all that makes a difference.  It is laid out there as in build,
    so that ccache finds what the fork has not changed.
    """
    root = project.build / 'base-build'
    what = 'QEMU without the fork'
    tree = Tree(project, 'qemu')
    tree.require()
    with stamp.lock(root / '.lock-qemu'):
        tree.base_tree(root / 'src/qemu')
        configure_once(project, root / 'src/qemu', root, what)
        _ninja(project, root / 'qemu', ['qemu-system-x86_64'], what)
