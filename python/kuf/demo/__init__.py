# SPDX-License-Identifier: GPL-2.0-or-later
"""
The demonstration: a guest is migrated in several modes, and what each costs is
measured.
"""
