# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a command needs in a host that does not see this machine's file system.
"""

from pathlib import Path
import re
import shutil
import subprocess
from typing import List, Sequence, Set


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


def pack_files(root: Path, paths: Sequence[Path]) -> None:
    """Files of this machine, with the libraries that they need."""
    files = [path.absolute() for path in paths]
    programs = [path for path in files if is_elf(path)]
    for path in {*files, *libraries(programs), LIBGCC}:
        pack_file(root, path)
