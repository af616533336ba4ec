# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a migration costs the host, counted by the host's kernel.

Nothing here stops a thread that is counted.  What this machine can't count, or
not for this user, is None.
"""

import os
from pathlib import Path
import re
from typing import (
    Dict,
    List,
    Optional,
    Tuple,
)

from kuf.architectures import native


TRACING = Path('/sys/kernel/tracing')
TRIGGER = TRACING / 'events/raw_syscalls/sys_enter/trigger'
HISTOGRAM = 'hist:keys=common_pid,id:size=8192'

# The two ways to a userfaultfd.
DEVICE = '/dev/userfaultfd'
SYSCALL = 'syscalls/sys_enter_userfaultfd'

# Threads of QEMU by name, and what they are for postcopy.
PLACING = re.compile(r'mig/dst/(listen|preempt|fault)')
VCPU = re.compile(r'CPU \d+/KVM')
ROLES = ('placing', 'vcpu', 'other')

# System calls by name, and how many.
Calls = Dict[str, int]


def role(thread: str) -> str:
    """The role of a thread, one of ROLES."""
    if PLACING.match(thread):
        return 'placing'
    return 'vcpu' if VCPU.match(thread) else 'other'


def call_names() -> Dict[int, str]:
    """System calls by number."""
    for path in native().syscalls:
        if path.exists():
            return {int(number): name for name, number in re.findall(
                r'^#define __NR_(\w+) (\d+)$',
                path.read_text(encoding='ascii'), re.M)}
    return {}


class SystemCalls:
    """A histogram of system calls that the kernel keeps, by thread."""

    def __init__(self) -> None:
        self.active = False

    def start(self) -> None:
        """Count from now on, from nothing."""
        try:
            self.stop()
            TRIGGER.write_text(f'{HISTOGRAM}\n', encoding='ascii')
            self.active = True
        except OSError:
            pass  # no such kernel, or not for this user

    def stop(self) -> None:
        """Count no more."""
        if self.active:
            TRIGGER.write_text(f'!{HISTOGRAM}\n', encoding='ascii')
            self.active = False

    def by_role(self, threads: Dict[int, str]) -> Optional[Dict[str, Calls]]:
        """What these threads have called; None if not all were seen."""
        if not self.active or 'placing' not in map(role, threads.values()):
            return None
        names = call_names()
        histogram = (TRIGGER.parent / 'hist').read_text(encoding='ascii')
        result: Dict[str, Calls] = {name: {} for name in ROLES}
        for tid, number, count in re.findall(
                r'common_pid: +(\d+), id: +(\d+) *\} hitcount: +(\d+)',
                histogram):
            if int(tid) not in threads:
                continue
            calls = result[role(threads[int(tid)])]
            name = names.get(int(number), number)
            calls[name] = calls.get(name, 0) + int(count)
        return result


class Threads:
    """
    The threads of a process: names, and context switches.

    What a thread did at the end of its life, after the last look, is not seen.
    """

    def __init__(self, pid: object):
        self.tasks = Path(f'/proc/{pid}/task')
        self.names: Dict[int, str] = {}
        self.switches: Dict[int, Tuple[int, int]] = {}

    def look(self) -> None:
        """Read what is there."""
        for task in self.tasks.glob('*'):
            try:
                status = (task / 'status').read_text(encoding='utf-8')
            except OSError:
                continue  # has ended meanwhile
            fields = dict(re.findall(r'^(\w+):\s*(.*)$', status, re.M))
            tid = int(task.name)
            self.names[tid] = fields['Name']
            self.switches[tid] = (
                int(fields['voluntary_ctxt_switches']),
                int(fields['nonvoluntary_ctxt_switches']))

    def by_role(self) -> Dict[str, Tuple[int, int]]:
        """Voluntary and involuntary context switches."""
        result = {name: (0, 0) for name in ROLES}
        for tid, (voluntary, involuntary) in self.switches.items():
            name = role(self.names[tid])
            before = result[name]
            result[name] = (before[0] + voluntary, before[1] + involuntary)
        return result


def huge_kb(pid: int) -> int:
    """How much of a process is mapped by huge pages, of whatever kind."""
    rollup = Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii')
    return sum(int(kb) for kb in re.findall(
        r'^(?:AnonHugePages|ShmemPmdMapped|FilePmdMapped|Shared_Hugetlb|'
        r'Private_Hugetlb): +(\d+) kB', rollup, re.M))


class UserfaultfdCalls:
    """
    How often a command, with all its threads and children, has asked for a
    userfaultfd.

    strace would stop all of the threads that it follows at each of their system
    calls: its seccomp filter is of use only to those that have made one of the
    calls that it looks for.
    """

    def __init__(self, name: str) -> None:
        # A name that nothing else in the kernel's tracer has.
        self.name = f'kuf_{os.getpid()}_{name}'
        self.instance = TRACING / 'instances' / self.name
        self.active = False

    def start(self) -> None:
        """Look from now on."""
        try:
            # What is opened, where the kernel has its name already.
            self._probe(f'p:{self.name}/open do_filp_open '
                        'name=+0(+0($arg2)):string')
            self.instance.mkdir()
            self._write('options/event-fork', '1')
            # Nobody's yet: with no number it would be all commands'.
            self._write('set_event_pid', '0')
            self._write(f'events/{self.name}/open/filter',
                        f'name == "{DEVICE}"')
            self._write(f'events/{self.name}/open/enable', '1')
            # A kernel without userfaultfd() does not know of its calls.
            if (self.instance / 'events' / SYSCALL).exists():
                self._write(f'events/{SYSCALL}/enable', '1')
            self.active = True
        except OSError:
            self.close()  # no such kernel, or not for this user

    def wrapper(self) -> List[str]:
        """What to put before the command, which keeps its process number."""
        return ['sh', '-c', f'echo $$ >{self.instance}/set_event_pid && '
                'exec "$@"', 'sh'] if self.active else []

    def count(self) -> Optional[int]:
        """How often so far; None if nobody looked."""
        if not self.active:
            return None
        lines = (self.instance / 'trace').read_text(errors='replace')
        return sum(not line.startswith('#') for line in lines.splitlines())

    def close(self) -> None:
        """Look no more."""
        self.active = False
        try:
            if self.instance.exists():
                self._write(f'events/{self.name}/open/enable', '0')
                self.instance.rmdir()
            self._probe(f'-:{self.name}/open')
        except OSError:
            pass  # there is none

    def _write(self, name: str, text: str) -> None:
        (self.instance / name).write_text(f'{text}\n', encoding='ascii')

    @staticmethod
    def _probe(text: str) -> None:
        # What is truncated loses all probes, and nothing there can be sought.
        probes = os.open(TRACING / 'kprobe_events', os.O_WRONLY)
        try:
            os.write(probes, f'{text}\n'.encode('ascii'))
        finally:
            os.close(probes)
