# SPDX-License-Identifier: GPL-2.0-or-later
"""
Emulated hosts: Linux with the kernel series, in which a command is run.
"""
