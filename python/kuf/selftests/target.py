# SPDX-License-Identifier: GPL-2.0-or-later
"""
What tests are run on: a kind of host, and how KVM works there.
"""

from importlib import import_module
import os
from pathlib import Path
import sys
from typing import (
    Dict,
    List,
    NamedTuple,
    Sequence,
)

from kuf import inside
from kuf.emulators import EMULATORS, Emulator
from kuf.paths import TOP
from kuf.selftests.cases import Case
from kuf.selftests.ended import Ended, verdict


LAUNCHER = TOP / 'host/selftests'
MAIN = 'kuf.selftests.run'
PYTHON = '/usr/bin/python3'

# What KVM lacks in a mode.  Guest memory of its own kind is for the TDP MMU.
LACKS: Dict[str, List[str]] = {
    'no-tdp-mmu': ['KVM_X86_SW_PROTECTED_VM'],
    'shadow': ['KVM_X86_SW_PROTECTED_VM', 'KVM_CAP_PRE_FAULT_MEMORY'],
}

# What tests look for in the host and would be skipped without.
APPEND = 'kvm.force_emulation_prefix=1'


class Target(NamedTuple):
    """What tests are run on, and where they are."""
    kernel: str
    mode: str
    folder: Path
    smp: int = 1
    emulator: str = 'tcg'
    # More for the kernel's command line.
    append: str = ''

    @property
    def emulation(self) -> Emulator:
        """What it is emulated by."""
        return EMULATORS[self.emulator]

    def lacks(self, ended: Ended) -> bool:
        """Was a test skipped for what can't be there?"""
        lacks = [*self.emulation.lacks, *LACKS.get(self.mode, [])]
        return (ended.result == 'skip' and
                any(lack in verdict(ended) for lack in lacks))

    def command(self, cases: Sequence[Case] = ()) -> List[str]:
        """The host, running ourselves; it ends when we do."""
        append = ' '.join(filter(None, [
            APPEND, self.emulation.modes[self.mode], self.append]))
        packed = [] if self.emulation.sees_files else self.files(cases)
        return ['setpriv', '--pdeathsig', 'TERM', str(self.emulation.launcher),
                '--kernel', self.kernel, '--smp', str(self.smp),
                '--append', append, '--timeout', '0',
                *[f'--with={path}' for path in packed], '--',
                PYTHON, '-S', *inside.command(LAUNCHER)]

    def files(self, cases: Sequence[Case]) -> List[str]:
        """All that a host needs to which this machine's files are unknown."""
        files = {PYTHON, str(LAUNCHER),
                 *(str(self.folder / case.name) for case in cases)}
        # What is imported here is imported there, whoever we were started by.
        import_module(MAIN)
        for module in list(sys.modules.values()):
            files |= {getattr(module, '__file__', None) or '',
                      getattr(module, '__cached__', None) or ''}
        return sorted(path for path in files
                      if os.path.isabs(path) and os.path.exists(path))

    def timeout(self, case: Case) -> float:
        """Checking everything takes its time."""
        return case.timeout * (8 if self.kernel.endswith('debug') else 1)
