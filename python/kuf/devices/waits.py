# SPDX-License-Identifier: GPL-2.0-or-later
"""
Who waits for memory in a QEMU with KVM userfault, by its trace.
"""

from pathlib import Path
import re
from typing import (
    Collection,
    List,
    Set,
    Tuple,
)


TRACE = ['-trace', 'kvm_memory_fault', '-trace', 'ram_wait_re*']
EVENT = re.compile(r'\b(kvm_memory_fault|ram_wait_re(?:quest|sume))'
                   r' (?:(\S+) offset (0x\w+) tid (\d+))?')

Page = Tuple[str, str]


class Waits:
    """
    The pages that are waited for by anybody but vCPUs in their guest.

    A vCPU's thread that emulates a device is not in its guest.
    """

    def __init__(self, log: Path, vcpus: Collection[int]):
        """
        @param log: of a QEMU with TRACE
        @param vcpus: their threads
        """
        self.log = log
        self.vcpus = set(vcpus)
        self.at = 0
        self.faults = 0
        self.devices: Set[Page] = set()

    def lines(self) -> List[str]:
        """What is new in the log."""
        with open(self.log, 'rb') as log:
            log.seek(self.at)
            data = log.read()
        data = data[:data.rfind(b'\n') + 1]
        self.at += len(data)
        return data.decode(errors='replace').splitlines()

    def look(self) -> Set[Page]:
        """Those that are waited for now."""
        for line in self.lines():
            if match := EVENT.search(line):
                self.event(*match.groups())
        return self.devices

    def event(self, name: str, block: str, offset: str, tid: str) -> None:
        """Something was asked for, or has come."""
        page = (block, offset)
        if name == 'kvm_memory_fault':
            self.faults += 1
        elif name == 'ram_wait_resume':
            self.devices.discard(page)
        elif int(tid) in self.vcpus and self.faults:
            self.faults = 0
        else:
            self.devices.add(page)
