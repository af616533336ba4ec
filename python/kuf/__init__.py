# SPDX-License-Identifier: GPL-2.0-or-later
"""
The fork's programs: its build, its emulated hosts, what is tested and what is
measured there.

Programs elsewhere in the tree are launchers of what is in here.
"""
