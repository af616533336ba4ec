# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a migration costs the host, counted by the host's kernel.

Nothing here stops a thread that is counted.  What this machine can't count, or
not for this user, is None.
"""

from pathlib import Path
import re
from typing import (
    Dict,
    List,
    Optional,
    Tuple,
)

from kuf.architectures import native


TRIGGER = Path('/sys/kernel/tracing/events/raw_syscalls/sys_enter/trigger')
HISTOGRAM = 'hist:keys=common_pid,id:size=8192'

# Threads of QEMU by name, and what they are for postcopy.
PLACING = re.compile(r'mig/dst/(listen|preempt|fault)')
VCPU = re.compile(r'CPU \d+/KVM')

# System calls by name, and how many.
Calls = Dict[str, int]


def role(thread: str) -> str:
    """The role of a thread."""
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
        result: Dict[str, Calls] = {'placing': {}, 'vcpu': {}, 'other': {}}
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

    def total(self) -> Tuple[int, int]:
        """Voluntary and involuntary context switches, of all threads."""
        return (sum(v for v, _ in self.switches.values()),
                sum(i for _, i in self.switches.values()))


def huge_kb(pid: int) -> int:
    """How much of a process is mapped by huge pages, of whatever kind."""
    rollup = Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii')
    return sum(int(kb) for kb in re.findall(
        r'^(?:AnonHugePages|ShmemPmdMapped|FilePmdMapped|Shared_Hugetlb|'
        r'Private_Hugetlb): +(\d+) kB', rollup, re.M))


def userfaultfd_tracer(log: Path) -> List[str]:
    """
    A wrapper of a command which writes down all ways to a userfaultfd.

    Only these calls stop a thread; the command keeps its process number.
    """
    return ['strace', '-D', '-f', '--seccomp-bpf', '-qq', '-o', str(log),
            '-e', 'trace=userfaultfd,open,openat,openat2']


def userfaultfd_calls(log: Path) -> Optional[int]:
    """How often a traced command asked for a userfaultfd."""
    if not log.exists():
        return None
    return len(re.findall(r'userfaultfd\(|"/dev/userfaultfd"',
                          log.read_text(errors='replace')))
