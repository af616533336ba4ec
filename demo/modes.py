# SPDX-License-Identifier: GPL-2.0-or-later
"""
The ways of postcopy that are compared.
"""

from typing import NamedTuple


class Mode(NamedTuple):
    """Who catches accesses to missing pages, and how requested ones come."""
    kvm_userfault: bool
    preempt: bool


MODES = {
    'userfaultfd': Mode(False, False),
    'userfaultfd+preempt': Mode(False, True),
    'kvm-userfault': Mode(True, False),
    'kvm-userfault+preempt': Mode(True, True),
}
