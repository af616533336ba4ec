# SPDX-License-Identifier: GPL-2.0-or-later
"""
Root file systems in memory.
"""

import gzip
import os
from pathlib import Path
import shutil
import subprocess
import tempfile
from typing import Optional

from kuf.build import stamp
from kuf.build.project import Project
from kuf.cli import Failure


BUSYBOX = Path('/bin/busybox')


def lay_base(project: Project, root: Path, init: Path,
             early: Optional[Path] = None) -> None:
    """
    What each host begins with: busybox, its init, and what that sources; EARLY
    is a folder with what its kernel needs.
    """
    if not BUSYBOX.exists():
        raise Failure(f'no {BUSYBOX}; install busybox-static')
    if early:
        shutil.copytree(early, root, symlinks=True)
    for name in ('bin', 'dev'):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / 'bin')
    for path, name, mode in ((init, 'init', 0o755),
                             (project.top / 'host/mounts', 'mounts', 0o644)):
        shutil.copy(path, root / name)
        (root / name).chmod(mode)
    root.chmod(0o755)


def pack(root: Path) -> bytes:
    """A folder as an archive that the kernel unpacks."""
    names = sorted(os.fsencode(path.relative_to(root))
                   for path in root.rglob('*'))
    return subprocess.run(
        ['cpio', '--quiet', '-o', '-H', 'newc', '-R', '0:0'], cwd=root,
        input=b''.join(name + b'\n' for name in [b'.', *names]),
        stdout=subprocess.PIPE, check=True).stdout


def compress(root: Path, level: int) -> bytes:
    """The same, compressed: level 1 is quick, 9 is small."""
    return gzip.compress(pack(root), level, mtime=0)


def build(project: Project, output: Path,
          early: Optional[Path] = None) -> None:
    """
    That of the emulated host: busybox, host/init, what that sources and what
    the kernel needs; everything else comes from the caller's file system.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'root')
        lay_base(project, root, project.top / 'host/init', early)
        stamp.write(output, compress(root, 9))
