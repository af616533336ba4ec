# SPDX-License-Identifier: GPL-2.0-or-later
"""
The file system of a host that does not see this machine's: an initramfs with
busybox, an init and all that a command needs.
"""

from pathlib import Path
import re
import shutil
import subprocess
from typing import List, Sequence, Set

from kuf.paths import TOP


# pthread_cancel() loads it; no program says that it needs it.
LIBGCC = Path('/lib/x86_64-linux-gnu/libgcc_s.so.1')


def is_elf(path: Path) -> bool:
    """Is it a program or a library?"""
    with open(path, 'rb') as file:
        return file.read(4) == b'\x7fELF'


def libraries(programs: List[Path]) -> Set[Path]:
    """What these are linked with, as they name it."""
    listed = subprocess.run(['ldd', *programs], check=False, text=True,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    return {Path(path) for path in re.findall(r'(/\S+) \(0x', listed)}


def pack_file(root: Path, path: Path) -> None:
    """One file, at its place; nothing there needs a debugger's symbols."""
    target = root / path.relative_to('/')
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)
    if is_elf(path):
        subprocess.run(['strip', '--strip-debug', target], check=True)


def pack_base(root: Path, init: Path) -> None:
    """What every host has, and its init."""
    (root / 'bin').mkdir(parents=True)
    (root / 'dev').mkdir()
    shutil.copy('/bin/busybox', root / 'bin/busybox')
    shutil.copy(TOP / 'host/mounts', root / 'mounts')
    shutil.copy(init, root / 'init')


def pack_files(root: Path, paths: Sequence[Path]) -> None:
    """Files of this machine, with the libraries that they need."""
    files = [path.absolute() for path in paths]
    programs = [path for path in files if is_elf(path)]
    for path in {*files, *libraries(programs), LIBGCC}:
        pack_file(root, path)


def write_archive(target: Path, root: Path) -> None:
    """The initramfs of a folder."""
    with open(target, 'wb') as output:
        subprocess.run('find . | LC_ALL=C sort | '
                       'cpio --quiet -o -H newc -R 0:0 | gzip -n1',
                       shell=True, check=True, cwd=root, stdout=output)
