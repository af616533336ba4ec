# SPDX-License-Identifier: GPL-2.0-or-later
"""
KVM's selftests, run in emulated hosts.
"""
