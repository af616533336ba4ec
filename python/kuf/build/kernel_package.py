# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's packages of kernels: which one a package stands for, and what is in it.
"""

import lzma
from pathlib import Path
import re
import shutil
import subprocess
from typing import List, Tuple

from kuf.build.apt import Apt
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


INSMOD = re.compile(r'^insmod (\S+)', re.M)


def stands_for(apt: Apt, meta: str, version: str) -> Tuple[str, str]:
    """The package with the files, and its version; its name has the ABI's."""
    depends = re.search(r'^Depends: .*?(linux-\w+-\d\S*) \(= ([^)]*)\)',
                        apt.show(f'{meta}={version}'), re.M)
    if not depends:
        raise Failure(f'{meta} {version} does not say which package it stands '
                      "for; it is not one of Debian's kernels")
    return depends[1], depends[2]


def unpack(apt: Apt, log: Log, package: Tuple[str, str], folder: Path) -> Path:
    """Fetch a package and unpack it in FOLDER/root, which is returned."""
    name, version = package
    apt.download(name, 'binary', version, folder)
    deb = next(folder.glob('*.deb'))
    with log.explains(f'{name} could not be unpacked'):
        log.run('dpkg-deb', '-x', deb, folder / 'root')
    deb.unlink()
    return folder / 'root'


def unpack_image(project: Project, root: Path, image: Path) -> None:
    """Debian's is a program with the kernel in it."""
    vmlinuz = next((root / 'boot').glob('vmlinuz-*'))
    extract = project.build / 'src/linux/scripts/extract-vmlinux'
    if not extract.exists():
        shutil.copy(vmlinuz, image)
        return
    with open(image, 'wb') as file:
        subprocess.run([extract, vmlinuz], stdout=file, check=True)


def index_modules(root: Path) -> str:
    """Make modprobe find them; returns what the kernel calls itself."""
    # Where they are depends on the release, and not for these programs.
    if not (root / 'lib').exists():
        (root / 'lib').symlink_to('usr/lib')
    release = next((root / 'lib/modules').iterdir()).name
    subprocess.run(['depmod', '-b', root, release], check=True)
    return release


def needed(root: Path, release: str, module: str) -> List[Path]:
    """The files of a module and of what it needs, in their order."""
    shown = subprocess.run(
        ['modprobe', '-d', root, '-S', release, '--show-depends', module],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Path(name) for name in INSMOD.findall(shown)]


def copy_module(path: Path, folder: Path) -> str:
    """Copy a module, not compressed; returns the name of its file."""
    content = path.read_bytes()
    name = path.name
    if path.suffix == '.xz':
        content, name = lzma.decompress(content), path.stem
    (folder / name).write_bytes(content)
    return name
