# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrations that are drawn, with all that can happen to them.
"""
