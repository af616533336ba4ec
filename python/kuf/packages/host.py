# SPDX-License-Identifier: GPL-2.0-or-later
"""
The packages where users have them: in a Debian 13 that runs on its own kernel,
in the emulated host.
"""

import subprocess

from kuf.build import installed, stock_kernel
from kuf.packages.readme import reload
from kuf.paths import TOP
from kuf.process import Word


def run(*command: Word, options: 'tuple[Word, ...]' = (),
        timeout: int = 900) -> 'subprocess.CompletedProcess[str]':
    """Run a command there, as root; the KVM that is loaded is Debian's."""
    return subprocess.run(
        [TOP / 'host/run', '--kernel', stock_kernel.BASE, '--smp', '1',
         '--timeout', str(timeout), *options, '--',
         TOP / 'host/debian-13', installed.NAME, *command],
        text=True, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def migrate(*command: Word,
            timeout: int = 900) -> 'subprocess.CompletedProcess[str]':
    """Run one that migrates, with the package's KVM."""
    return run('sh', '-c', f'{reload()} && exec "$@"', 'sh', *command,
               options=('--smp', '2'), timeout=timeout)
