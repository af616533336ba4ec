# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of devices, and of the link, under guests that are migrated.
"""
