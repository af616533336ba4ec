# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is migrated, how often and how.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from kuf.guest.echo import ECHO_PORT


MB = 1 << 20
# What the guest's kernel and its buffers take; with 80 it was out of memory.
GUEST_KERNEL_MB = 96


# pylint: disable-next=too-many-instance-attributes
@dataclass
class Scenario:
    """A guest, a link, and the migrations of the one over the other."""
    # By their names, in each round in turn.
    modes: List[str]
    rounds: int
    vcpus: int
    # In megabytes.
    memory: int
    # What works on memory in the guest: so many threads, with so many megabytes
    # each, and so many for all.
    threads: int
    own: int
    shared: int
    # "random" or "sequential", and how many visits write, in percent.
    order: str
    write: int
    # The guest's kernel lets another task run while userfaultfd brings a page.
    async_page_faults: bool
    # What the guest's memory is in the host, see kuf.guest.backing.
    backing: str
    # In megabytes a second; of background pages, 0 for no limit.
    bandwidth: int
    postcopy_bandwidth: int
    # In microseconds.
    rtt: int
    output: Path
    qemu: Path
    # Where the guest begins before each migration, if not in that one.
    source: Optional[Path]
    # The host is emulated, and its clock counts instructions.
    emulated: bool
    icount: bool
    # Somebody looks on.
    live: bool

    @property
    def used(self) -> int:
        """What the guest works on, in megabytes."""
        return self.own * self.threads + self.shared

    @property
    def needed(self) -> int:
        """The least memory that such a guest can have, in megabytes."""
        return self.used + GUEST_KERNEL_MB

    @property
    def work(self) -> str:
        """What the guest does, see guest/init.c."""
        return (f'stress:threads={self.threads}:own={self.own}'
                f':shared={self.shared}:order={self.order}:write={self.write}'
                f',disk:vda:20,net:eth0:10.0.2.15:10.0.2.2:{ECHO_PORT}')

    @property
    def append(self) -> str:
        """More for the guest kernel's command line."""
        return '' if self.async_page_faults else ' no-kvmapf'

    def order_of(self, number: int) -> List[str]:
        """The modes of a round: whoever comes first has the others' past."""
        return self.modes if number % 2 else self.modes[::-1]
