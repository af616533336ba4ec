# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migration by libvirt, between two hosts.
"""
