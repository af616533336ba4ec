# SPDX-License-Identifier: GPL-2.0-or-later
"""
The emulated host as benchmarks have it: mostly, its clock counts instructions.
"""

import subprocess

from kuf.cli import Failure
from kuf.paths import TOP


def wall_host(kernel: str, script: str, *options: str) -> str:
    """What a shell script prints in the emulated host."""
    result = subprocess.run(
        [TOP / 'host/run', '--kernel', kernel, '--timeout', '900',
         *options, '--', 'sh', '-ec', script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding='utf-8', check=False)
    if result.returncode:
        tail = '\n'.join(result.stdout.splitlines()[-20:])
        raise Failure(f"a run failed on kernel '{kernel}' with status "
                      f'{result.returncode}:\n{tail}')
    return result.stdout


def host(kernel: str, script: str, *options: str) -> str:
    """The same, and time is the number of instructions."""
    return wall_host(kernel, script, '--icount', *options)


def release(kernel: str) -> str:
    """The kernel's release, from a host in which counts mean something."""
    fast, uname = host(kernel, 'grep -cwE "erms|fsrm" /proc/cpuinfo '
                       '|| :; uname -r').split()
    if fast != '0':
        raise Failure("the host's processor has fast string moves, of which "
                      'each byte counts as an instruction; see '
                      "host/run's --icount")
    return uname
