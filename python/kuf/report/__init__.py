# SPDX-License-Identifier: GPL-2.0-or-later
"""
Reports on what the demonstration has measured.
"""
