# SPDX-License-Identifier: GPL-2.0-or-later
"""
Documents, as far as they are generated: from the source, and from what was
measured.
"""
