# SPDX-License-Identifier: GPL-2.0-or-later
"""
A meson that QEMU 10.0 takes, and what its functional tests print with: the
machine's, or Debian's newer ones unpacked in a virtual environment, which
QEMU's configure knows how to build on.
"""

from pathlib import Path
import shutil
import subprocess
from typing import List

from kuf.build import stamp, versions
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.log import Log
from kuf.build.project import Project


# Both are of base/NAME.
TOOLS = ('meson', 'pycotap')

OLDEST = '1.5.0'

MACHINE = Path('/usr/bin/meson')
MACHINE_PYTHON = Path('/usr/bin/python3')

LAUNCHER = '''#!{}
from mesonbuild.mesonmain import main
raise SystemExit(main())
'''


def _folder(project: Project) -> Path:
    return project.build / 'tools'


def python(project: Project) -> Path:
    """The Python that has meson."""
    ours = _folder(project) / 'bin/python3'
    return ours if ours.exists() else MACHINE_PYTHON


def meson(project: Project) -> Path:
    """That meson."""
    ours = _folder(project) / 'bin/meson'
    return ours if ours.exists() else MACHINE


def _machine_has_pycotap() -> bool:
    return not subprocess.run([MACHINE_PYTHON, '-c', 'import pycotap'],
                              stderr=subprocess.DEVNULL,
                              check=False).returncode


def _machine_will_do() -> bool:
    if shutil.which('meson') != str(MACHINE):
        return False
    version = subprocess.run([MACHINE, '--version'], stdout=subprocess.PIPE,
                             text=True, check=False).stdout.strip()
    return (versions.key(version) >= versions.key(OLDEST)
            and _machine_has_pycotap())


def _unpack(project: Project, bases: List[Base], log: Log) -> None:
    folder, files = _folder(project), project.build / '.tools'
    stamp.remove(folder)
    stamp.remove(files)
    for base in bases:
        for package in base.files.glob('*.deb'):
            log.run('dpkg-deb', '-x', package, files)
    log.run(MACHINE_PYTHON, '-m', 'venv', '--system-site-packages',
            '--without-pip', folder)
    site = next((folder / 'lib').glob('python3*')) / 'site-packages'
    shutil.copytree(files / 'usr/lib/python3/dist-packages', site,
                    dirs_exist_ok=True)
    stamp.remove(files)
    launcher = folder / 'bin/meson'
    launcher.write_text(LAUNCHER.format(folder / 'bin/python3'),
                        encoding='utf-8')
    launcher.chmod(0o755)


def prepare(project: Project, apt: Apt) -> None:
    """Have them."""
    bases = [Base(project, name) for name in TOOLS]
    done = _folder(project) / '.inputs'
    inputs = ' '.join([str(project.build), *(base.inputs() for base in bases)])
    if stamp.is_at(done, inputs):
        return
    if _machine_will_do():
        stamp.remove(_folder(project))
        return
    for base in bases:
        base.fetch(apt)
    log = Log(project.log('unpack'))
    with log.explains(f"{' and '.join(TOOLS)} could not be unpacked"):
        _unpack(project, bases, log)
    stamp.put(done, inputs)
