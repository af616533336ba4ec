# SPDX-License-Identifier: GPL-2.0-or-later
"""
Root file systems in memory: the same files give the same bytes.
"""

import gzip
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

from kuf.build import stamp
from kuf.build.project import Project
from kuf.cli import Failure


BUSYBOX = Path('/bin/busybox')

# Of host/, with their modes.
FILES = {'init': 0o755, 'mounts': 0o644}


def pack(root: Path) -> bytes:
    """A folder as an archive that the kernel unpacks."""
    names = sorted(os.fsencode(path.relative_to(root))
                   for path in root.rglob('*'))
    return subprocess.run(
        ['cpio', '--quiet', '-o', '-H', 'newc', '-R', '0:0'], cwd=root,
        input=b''.join(name + b'\n' for name in [b'.', *names]),
        stdout=subprocess.PIPE, check=True).stdout


def build(project: Project, output: Path) -> None:
    """
    That of the emulated host: busybox, host/init and what that sources;
    everything else comes from the caller's file system.
    """
    if not BUSYBOX.exists():
        raise Failure(f'no {BUSYBOX}; install busybox-static')
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ('bin', 'dev'):
            (root / name).mkdir()
        shutil.copy(BUSYBOX, root / 'bin')
        for name, mode in FILES.items():
            shutil.copy(project.top / 'host' / name, root / name)
            (root / name).chmod(mode)
        root.chmod(0o755)
        packed = gzip.compress(pack(root), mtime=0)
    stamp.write(output, packed)
