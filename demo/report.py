#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Launches kuf.report.report."""

from pathlib import Path
import sys


sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'python'))

from kuf.report import report  # noqa: E402


sys.exit(report.main())
