# SPDX-License-Identifier: GPL-2.0-or-later
"""
The build engine: which sources the fork is laid over, how they are brought
and prepared, and how what is made of them is built.

Each step is done when its inputs are not those of last time, and leaves
nothing half-done behind: killed at any point, it goes on where it was.
"""
