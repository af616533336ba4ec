# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is tried of the Debian packages, in a Debian 13 as users have it.
"""
