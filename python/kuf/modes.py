# SPDX-License-Identifier: GPL-2.0-or-later
"""
The ways of postcopy.
"""

from typing import Dict, NamedTuple


KVM_USERFAULT = 'kvm-userfault'
USERFAULTFD = 'userfaultfd'
BACKENDS = [USERFAULTFD, KVM_USERFAULT]


class Mode(NamedTuple):
    """Who catches accesses to missing pages, and how requested ones come."""
    backend: str
    preempt: bool

    @property
    def kvm_userfault(self) -> bool:
        """Does it do without userfaultfd?"""
        return self.backend == KVM_USERFAULT


MODES: Dict[str, Mode] = {
    f"{backend}{'+preempt' if preempt else ''}": Mode(backend, preempt)
    for backend in BACKENDS for preempt in (False, True)}


def uses_kvm_userfault(name: str) -> bool:
    """Does the mode of that name promise to do without userfaultfd?"""
    return name.startswith(KVM_USERFAULT)
