# SPDX-License-Identifier: GPL-2.0-or-later
"""
The processor architectures of hosts and guests: another one is an entry here.
"""

from pathlib import Path
import platform
from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Sequence,
)

from kuf.cli import Failure
from kuf.host import tsc
from kuf.paths import BUILD


class Architecture(NamedTuple):
    """An architecture, as QEMU and Linux have it."""
    # As QEMU calls it, and uname.
    name: str
    # Where a kernel's build has what is booted.
    image: str
    machine: str
    # The kernel's device of the first serial port.
    console: str
    # TCG's processor with KVM's own hardware, and the kernel's arguments for
    # its clock; one of which each instruction does as much as the next, and
    # the arguments for a clock that counts them.
    cpu: str
    append: Callable[[], str]
    counting_cpu: str
    counting_append: str
    # The monitor's commands for interrupt controllers: for each processor, and
    # for all.
    cpu_controllers: Sequence[str]
    controllers: Sequence[str]
    # A guest's processor under KVM.
    guest_cpu: str
    # Headers with the numbers of system calls, the first that there is.
    syscalls: Sequence[Path]

    @property
    def qemu(self) -> Path:
        """QEMU with the fork, as it was built."""
        return self.qemu_in(BUILD)

    def qemu_in(self, build: Path) -> Path:
        """The same of another build."""
        return build / 'qemu' / f'qemu-system-{self.name}'

    def guest_args(self) -> List[str]:
        """QEMU's arguments for a guest's processor."""
        return ['-accel', 'kvm', '-cpu', self.guest_cpu]


_X86_64 = Architecture(
    'x86_64', 'arch/x86/boot/bzImage', 'q35', 'ttyS0',
    cpu='max,+svm', append=tsc.append,
    # "rep movsb" would count each byte.
    counting_cpu='max,+svm,-erms,-fsrm',
    # One count is one nanosecond.  The APIC's timer fails the kernel's check
    # against other timers; to find that out would take 20 seconds.
    counting_append='tsc_early_khz=1000000 nolapic_timer',
    cpu_controllers=['info lapic {cpu}'],
    controllers=['info pic'],
    # TCG's nested guests get deadlines that are a minute away.
    guest_cpu='host,-tsc-deadline',
    syscalls=[Path('/usr/include/x86_64-linux-gnu/asm/unistd_64.h'),
              Path('/usr/include/asm/unistd_64.h')])

ARCHITECTURES: Dict[str, Architecture] = {
    architecture.name: architecture for architecture in (_X86_64,)}


def native() -> Architecture:
    """The architecture of this machine, and so of KVM's guests on it."""
    name = platform.machine()
    if name not in ARCHITECTURES:
        raise Failure(f"guests can't be run on '{name}', only on: "
                      f"{', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
