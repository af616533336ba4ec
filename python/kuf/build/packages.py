# SPDX-License-Identifier: GPL-2.0-or-later
"""
The Debian packages that the build needs: base/packages.
"""

import os
from pathlib import Path
import shutil
import subprocess
from typing import List

from kuf.build.apt import Apt
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


def listed(path: Path) -> List[str]:
    """Those that a file lists, with comments."""
    return [word for line in path.read_text(encoding='utf-8').splitlines()
            for word in line.split('#')[0].split()]


def wanted(project: Project) -> List[str]:
    """All that are needed."""
    return listed(project.top / 'base/packages')


def missing(project: Project) -> List[str]:
    """Those that are not installed."""
    packages = wanted(project)
    known = subprocess.run(
        ['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n',
         *packages], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=False).stdout.splitlines()
    return [name for name in packages if f'{name} installed' not in known]


def as_root(what: str, otherwise: str = '') -> List[str]:
    """What a command is run by that needs root for WHAT."""
    if os.getuid() == 0:
        return []
    if not shutil.which('sudo'):
        raise Failure(f'{what} needs root: run as root or install sudo'
                      f'{otherwise}')
    return ['sudo']


def install(project: Project, apt: Apt, allowed: bool) -> None:
    """Bring what is missing, or only say what that is."""
    packages = missing(project)
    if not packages:
        return
    names = ' '.join(packages)
    if not allowed:
        raise Failure(f'these packages are missing: {names}; install them, or '
                      'run configure without --no-install')
    print(f'Installing packages: {names}', flush=True)
    by_root = as_root('installing packages',
                      f', or have these installed: {names}')
    apt.archives()
    log = Log(project.log('packages'))
    with log.explains('packages could not be installed',
                      "check the network and apt's configuration with "
                      "'apt-get update'"):
        log.run(*by_root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get',
                *apt.machine_options(), 'install', '-y',
                '--no-install-recommends', '-o', 'Dpkg::Lock::Timeout=120',
                *packages)
