# SPDX-License-Identifier: GPL-2.0-or-later
"""
A meson that QEMU 10.0 takes: the machine's, or Debian's newer one unpacked in
a virtual environment, which QEMU's configure knows how to build on.
"""

from pathlib import Path
import shutil
import subprocess

from kuf.build import stamp, versions
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.log import Log
from kuf.build.project import Project


OLDEST = '1.5.0'

MACHINE = Path('/usr/bin/meson')

LAUNCHER = '''#!{}
from mesonbuild.mesonmain import main
raise SystemExit(main())
'''


def _folder(project: Project) -> Path:
    return project.build / 'tools'


def python(project: Project) -> Path:
    """The Python that has meson."""
    ours = _folder(project) / 'bin/python3'
    return ours if ours.exists() else Path('/usr/bin/python3')


def meson(project: Project) -> Path:
    """That meson."""
    ours = _folder(project) / 'bin/meson'
    return ours if ours.exists() else MACHINE


def _machine_will_do() -> bool:
    if shutil.which('meson') != str(MACHINE):
        return False
    version = subprocess.run([MACHINE, '--version'], stdout=subprocess.PIPE,
                             text=True, check=False).stdout.strip()
    return versions.key(version) >= versions.key(OLDEST)


def _unpack(project: Project, base: Base, log: Log) -> None:
    folder, files = _folder(project), project.build / '.meson'
    stamp.remove(folder)
    stamp.remove(files)
    for package in base.files.glob('*.deb'):
        log.run('dpkg-deb', '-x', package, files)
    log.run('/usr/bin/python3', '-m', 'venv', '--system-site-packages',
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
    """Have such a one."""
    base = Base(project, 'meson')
    done = _folder(project) / '.inputs'
    inputs = f'{project.build} {base.inputs()}'
    if stamp.is_at(done, inputs):
        return
    if _machine_will_do():
        stamp.remove(_folder(project))
        return
    version = base.fetch(apt)
    log = Log(project.log('unpack'))
    with log.explains(f'meson {version} could not be unpacked'):
        _unpack(project, base, log)
    stamp.put(done, inputs)
