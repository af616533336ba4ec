# SPDX-License-Identifier: GPL-2.0-or-later
"""
Benchmarks: what is measured, and the reports on it.
"""
