# SPDX-License-Identifier: GPL-2.0-or-later
"""
What postcopy with KVM userfault refuses: the table, and the list of commands.

Who refuses what, and why, is in the source: whoever bypasses the RAM wait
says so, and gives a reason, see include/system/ram-bypass.h.  What users call
it, and what they do about it, is here.
"""

import re
from textwrap import fill
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
    Tuple,
)

from kuf.cli import Failure
from kuf.documents.blocks import Blocks
from kuf.documents.sources import sources, strings


REASONS = 'include/system/ram-bypass.h'
# The mechanism, which refuses nothing of its own but what it does not know.
MECHANISM = (REASONS, 'system/ram-bypass.c', 'system/ram-bypass-stub.c')
# Stands for what bypasses in tests.
TESTS = ('hw/misc/vhost-testdev.c',)

REMOVE = 'Remove it.'
UNPLUG = 'Unplug it for the migration, or use a device that QEMU emulates.'
BLOCK = 'Use another block backend.'
NEVER = "It can't be migrated this way."


class Refusal(NamedTuple):
    """Who is refused, where that stands, and what to do about it."""
    file: str
    # RAM_BYPASS_..., or how the words begin.
    reason: str
    what: str
    advice: str


REFUSALS = [
    Refusal('hw/virtio/vhost-ram-bypass.c', 'RAM_BYPASS_PROCESS',
            'vhost-user devices', UNPLUG),
    Refusal('net/vhost-user.c', 'RAM_BYPASS_PROCESS',
            'vhost-user network backends', UNPLUG),
    Refusal('hw/remote/proxy.c', 'RAM_BYPASS_PROCESS',
            'multi-process devices', UNPLUG),
    Refusal('hw/remote/machine.c', 'RAM_BYPASS_PROCESS',
            'multi-process devices', UNPLUG),
    Refusal('hw/misc/ivshmem-pci.c', 'RAM_BYPASS_SHARED', 'ivshmem', UNPLUG),
    Refusal('hw/misc/ivshmem-flat.c', 'RAM_BYPASS_SHARED', 'ivshmem', UNPLUG),
    Refusal('hw/virtio/vhost-ram-bypass.c', 'RAM_BYPASS_KERNEL',
            'vhost-scsi, vhost-vsock, and any other vhost device but tap with '
            '``vhost=on``', UNPLUG),
    Refusal('net/tap.c', 'vhostforce=on', 'tap with ``vhostforce=on``',
            'Use ``vhost=on``.'),
    Refusal('hw/virtio/vhost-ram-bypass.c', 'RAM_BYPASS_HARDWARE',
            'vhost-vdpa', UNPLUG),
    Refusal('hw/virtio/vdpa-dev.c', 'RAM_BYPASS_HARDWARE', 'vhost-vdpa',
            UNPLUG),
    Refusal('net/vhost-vdpa.c', 'RAM_BYPASS_HARDWARE', 'vhost-vdpa', UNPLUG),
    Refusal('hw/vfio/common.c', 'RAM_BYPASS_HARDWARE', 'vfio', UNPLUG),
    Refusal('hw/vfio/container-base.c', 'RAM_BYPASS_HARDWARE', 'vfio', UNPLUG),
    Refusal('migration/postcopy-kvm-userfault-blockers.c',
            'RAM_BYPASS_HARDWARE', 'whatever else pins guest memory', UNPLUG),
    Refusal('util/vfio-helpers.c', 'RAM_BYPASS_HARDWARE',
            '``nvme://`` block backends', BLOCK),
    Refusal('block/blkio.c', 'RAM_BYPASS_UNGUARDED',
            'libblkio block backends', BLOCK),
    Refusal('hw/mem/nvdimm.c', 'RAM_BYPASS_PERSISTENT', 'nvdimm', REMOVE),
    Refusal('hw/virtio/virtio-pmem.c', 'RAM_BYPASS_PERSISTENT', 'virtio-pmem',
            REMOVE),
    Refusal('migration/postcopy-kvm-userfault-blockers.c',
            'RAM_BYPASS_PERSISTENT', 'memory with ``pmem=on``', REMOVE),
    Refusal('hw/virtio/virtio-mem.c', 'RAM_BYPASS_RESIZES', 'virtio-mem',
            'Remove it; pc-dimm and virtio-balloon work.'),
    Refusal('hw/hyperv/hv-balloon.c', 'RAM_BYPASS_RESIZES', 'hv-balloon',
            'Remove it; pc-dimm and virtio-balloon work.'),
    Refusal('hw/acpi/erst.c', 'RAM_BYPASS_POINTER', 'acpi-erst', REMOVE),
    Refusal('hw/mem/cxl_type3.c', 'RAM_BYPASS_POINTER', 'CXL memory', REMOVE),
    Refusal('hw/nvme/ctrl.c', 'RAM_BYPASS_POINTER', "NVMe with ``pmrdev``",
            REMOVE),
    Refusal('hw/i386/sgx-epc.c', 'RAM_BYPASS_PRIVATE', 'SGX', NEVER),
    Refusal('migration/postcopy-kvm-userfault-blockers.c', 'RAM_BYPASS_PRIVATE',
            'memory of confidential guests, guest_memfd', NEVER),
    Refusal('migration/postcopy-kvm-userfault-blockers.c',
            'guest memory is private', 'SEV and other confidential guests',
            NEVER),
    Refusal('target/i386/kvm/xen-emu.c', 'RAM_BYPASS_UNGUARDED', 'Xen', NEVER),
    Refusal('migration/postcopy-kvm-userfault-blockers.c',
            'it writes to guest memory by itself', 'RDMA',
            'Use another transport.'),
]

# QEMU does its work meanwhile: the only one that may stay.
POSTPONED = ('net/tap.c', 'RAM_BYPASS_KERNEL')

# How users call it, if in another way.
COMMANDS = {
    'savevm': '``savevm``, ``snapshot-save``',
    'gdb': "the gdbstub's accesses to memory, and software breakpoints",
    'calc-dirty-rate with page-sampling':
        '``calc-dirty-rate`` with page sampling',
}

Found = Tuple[str, str]


def reasons(header: str) -> Dict[str, str]:
    """The words of each RAM_BYPASS_..."""
    joined = re.sub(r'\\\n\s*', '', header)
    return {name: re.sub(r'"\s*"', '', words) for name, words in re.findall(
        r'^#define (RAM_BYPASS_\w+)\s+"(.*)"$', joined, re.M)}


def refused_by(file: str, text: str) -> Iterator[Found]:
    """What a file refuses: a reason's name, or words."""
    text = strings(text)
    named = set(re.findall(r'\bRAM_BYPASS_[A-Z]+\b', text))
    words = re.findall(r'\.why = "([^"]*)"', text)
    words += re.findall(r'ram_bypass_refuse\([^,]*,\s*[^,]*,\s*"([^"]*)"',
                        text)
    if not named and not words and re.search(r'\bram_bypass_register\(', text):
        # No reason given.
        named = {'RAM_BYPASS_UNGUARDED'}
    for reason in sorted(named) + words:
        yield file, reason


def all_found(texts: Dict[str, str]) -> List[Found]:
    """All that the source refuses."""
    return [found for file, text in texts.items()
            if file.endswith('.c') and file not in MECHANISM + TESTS
            for found in refused_by(file, text) if found != POSTPONED]


def fits(refusal: Refusal, found: Found) -> bool:
    """Is it this one?"""
    return refusal.file == found[0] and found[1].startswith(refusal.reason)


def check(found: List[Found]) -> None:
    """The source and the table above agree."""
    for one in found:
        if not any(fits(refusal, one) for refusal in REFUSALS):
            raise Failure(f"{one[0]} refuses something ('{one[1]}') that users "
                          'have no name for; add it to REFUSALS in '
                          'kuf/documents/refusals.py')
    for refusal in REFUSALS:
        if not any(fits(refusal, one) for one in found):
            raise Failure(f"{refusal.file} does not refuse '{refusal.what}' "
                          f"for '{refusal.reason}' any more; correct REFUSALS "
                          'in kuf/documents/refusals.py')


def why(refusal: Refusal, found: List[Found], known: Dict[str, str]) -> str:
    """The reason in words, as the error has them."""
    reason = next(one[1] for one in found if fits(refusal, one))
    return known.get(reason, reason)


def rows() -> List[List[str]]:
    """Who is refused, why, and what to do: alike ones together."""
    texts = sources()
    found = all_found(texts)
    check(found)
    known = reasons(texts[REASONS])
    alike: Dict[Tuple[str, str], List[str]] = {}
    for refusal in REFUSALS:
        key = (why(refusal, found, known), refusal.advice)
        names = alike.setdefault(key, [])
        if refusal.what not in names:
            names.append(refusal.what)
    return [[', '.join(names), reason, advice]
            for (reason, advice), names in alike.items()]


def cell(mark: str, text: str) -> str:
    """A cell of a list-table."""
    return fill(text, 80, initial_indent=f'   {mark} - ',
                subsequent_indent='       ', break_on_hyphens=False)


def table() -> str:
    """The table, in reStructuredText."""
    lines = ['.. list-table::', '   :header-rows: 1', '   :widths: 34 33 33',
             '']
    for first, *others in [['what', 'why', 'what to do'], *rows()]:
        lines += [cell('*', first), *(cell(' ', text) for text in others)]
    return '\n'.join(lines)


def commands() -> str:
    """What is not possible meanwhile, as a sentence."""
    text = strings('\n'.join(sources().values()))
    names = re.findall(r'postcopy_kvm_userfault_allows\("([^"]+)"', text)
    for call in re.findall(r'hmp_may_read_guest_memory\(mon, ([^)]*)\)', text):
        names += re.findall(r'"([^"]+)"', call)
    said = sorted(COMMANDS.get(name, f'``{name}``') for name in set(names))
    return fill(f"{', '.join(said)}, and the removal of memory devices.", 80,
                break_on_hyphens=False)


BLOCKS: Blocks = {'refusals': table, 'refused-commands': commands}
