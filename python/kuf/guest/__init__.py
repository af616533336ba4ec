# SPDX-License-Identifier: GPL-2.0-or-later
"""
Guests that are migrated, with all that they talk to; see guest/init.c.
"""
