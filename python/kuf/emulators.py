# SPDX-License-Identifier: GPL-2.0-or-later
"""
What hosts are emulated by: another emulator, or processor, is an entry here.
"""

from pathlib import Path
from typing import Dict, NamedTuple, Sequence

from kuf.architectures import ARCHITECTURES, Architecture
from kuf.paths import BUILD, TOP


class Emulator(NamedTuple):
    """An emulator, and what KVM can do on the processor that it has."""
    name: str
    architecture: Architecture
    # Runs a command in such a host.
    launcher: Path
    binary: Path
    # What builds it.
    made_by: str
    # Commands find this machine's files there, without their being packed.
    sees_files: bool
    # The ways in which KVM can be told to work there.  How it maps guest
    # memory, above all; each has code of its own.
    modes: Dict[str, str]
    # What the processor lacks, as a test says it that is skipped for that.
    lacks: Sequence[str] = ()


_X86_64 = ARCHITECTURES['x86_64']

EMULATORS: Dict[str, Emulator] = {
    # AMD's processor.
    'tcg': Emulator(
        'QEMU', _X86_64, TOP / 'host/run', _X86_64.qemu, 'make',
        sees_files=True,
        modes={
            'tdp': '',
            'no-tdp-mmu': 'kvm.tdp_mmu=0',
            'shadow': 'kvm_amd.npt=0',
        },
        lacks=['X86_FEATURE_VMX']),
    # Intel's.
    'bochs': Emulator(
        'Bochs', _X86_64, TOP / 'host/intel/run', BUILD / 'bochs/bochs',
        'make bochs',
        sees_files=False,
        modes={
            'tdp': '',
            'no-tdp-mmu': 'kvm.tdp_mmu=0',
            'no-apicv': 'kvm_intel.enable_apicv=0',
            'no-unrestricted-guest': 'kvm_intel.unrestricted_guest=0',
            'shadow': 'kvm_intel.ept=0',
        },
        lacks=['X86_FEATURE_SVM']),
}
