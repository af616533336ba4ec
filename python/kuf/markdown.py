# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks' reports have in common."""

from typing import List


def table(header: List[str], rows: List[List[str]]) -> str:
    """A table in Markdown: a column of words, and columns of numbers."""
    lines = [header, ['---'] + ['--:'] * (len(header) - 1), *rows]
    return ''.join(f"| {' | '.join(line)} |\n" for line in lines)


def words(header: List[str], rows: List[List[str]]) -> str:
    """A table in Markdown that has no numbers."""
    return ''.join(f"| {' | '.join(line)} |\n" for line in
                   [header, ['---'] * len(header), *rows])
