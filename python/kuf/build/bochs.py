# SPDX-License-Identifier: GPL-2.0-or-later
"""
The emulator of the Intel host, from Debian's source with host/intel/patches on
top, once for each state of these.  It is neither installed nor does it need a
screen.
"""

from pathlib import Path
from typing import List

from kuf.build import stamp
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.compilers import compiler, environment, jobs
from kuf.build.log import Log
from kuf.build.project import Project


# What the host needs and little more: VMX with all of its features, no screen.
OPTIONS = (
    '--enable-smp', '--enable-cpu-level=6', '--enable-x86-64',
    '--enable-vmx=2', '--enable-svm', '--enable-avx', '--enable-evex',
    '--enable-pci', '--enable-long-phy-address', '--enable-all-optimizations',
    '--with-nogui', '--disable-docbook', 'CXXFLAGS=-O2', 'CFLAGS=-O2')

PATCHES = Path('host/intel/patches')


def _build(project: Project, base: Base, patches: List[Path],
           inputs: str) -> None:
    stamp.need_space(project.build, 500, 'Bochs')
    version = base.fetch(Apt(project))
    called = f'bochs {version}'
    print(f'Building {called}', flush=True)
    new = project.build / '.bochs'
    stamp.remove(new)
    log = Log(project.log('bochs'))
    with log.explains(f'{called} could not be unpacked',
                      'run the same command again'):
        base.unpack(log, version, new)
    with log.explains(f'{PATCHES} do not apply to {called}',
                      'correct them or base/bochs'):
        for patch in patches:
            log.run('patch', '-p1', '--fuzz=0', '-i', patch, cwd=new)
    env = environment(project)
    with log.explains('bochs could not be configured'):
        log.run('./configure', *OPTIONS, f"CXX={compiler('g++')}",
                f"CC={compiler('gcc')}", cwd=new, env=env)
    with log.explains('bochs does not build'):
        log.run('make', jobs(), 'bochs', cwd=new, env=env)
    stamp.put(new / '.inputs', inputs)
    stamp.replace(new, project.build / 'bochs')


def build(project: Project) -> None:
    """build/bochs/bochs"""
    base = Base(project, 'bochs')
    patches = sorted((project.top / PATCHES).glob('*.patch'))
    inputs = stamp.checksum(Path(__file__), base.path, *patches)
    with stamp.lock(project.build / '.lock-bochs'):
        if not stamp.is_at(project.build / 'bochs/.inputs', inputs):
            _build(project, base, patches, inputs)
