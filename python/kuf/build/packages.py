# SPDX-License-Identifier: GPL-2.0-or-later
"""
The Debian packages that the build needs: base/packages.
"""

import os
import shutil
import subprocess
from typing import List

from kuf.build.apt import Apt
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


def wanted(project: Project) -> List[str]:
    """All that are needed."""
    text = (project.top / 'base/packages').read_text(encoding='utf-8')
    return [word for line in text.splitlines()
            for word in line.split('#')[0].split()]


def missing(project: Project) -> List[str]:
    """Those that are not installed."""
    packages = wanted(project)
    known = subprocess.run(
        ['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n',
         *packages], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=False).stdout.splitlines()
    return [name for name in packages if f'{name} installed' not in known]


def _as_root(names: str) -> List[str]:
    if os.getuid() == 0:
        return []
    if not shutil.which('sudo'):
        raise Failure('installing packages needs root: run as root, install '
                      f'sudo, or have these installed: {names}')
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
    as_root = _as_root(names)
    apt.archives()
    log = Log(project.log('packages'))
    with log.explains('packages could not be installed',
                      "check the network and apt's configuration with "
                      "'apt-get update'"):
        log.run(*as_root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get',
                *apt.machine_options(), 'install', '-y',
                '--no-install-recommends', '-o', 'Dpkg::Lock::Timeout=120',
                *packages)
