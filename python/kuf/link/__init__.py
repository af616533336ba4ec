# SPDX-License-Identifier: GPL-2.0-or-later
"""
The link between the two sides of a migration: what goes over it, and where it
can be cut.
"""
