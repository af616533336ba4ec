# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as one screen of text."""

import textwrap
from typing import List

from kuf.cli import counted
from kuf.report.figures import (
    FIGURES,
    Data,
    Run,
    all_modes,
    cell,
    check_schema,
    clock_text,
    failures,
    guest_text,
    host_text,
    link_text,
    rounds,
    sentence,
    verdict,
)


LINES, COLUMNS = 24, 80
# Of the table on the screen: four modes fill a line.
LABEL, CELL = 24, 14


def line(label: str, cells: List[str]) -> str:
    """A line of the table, cut to the screen."""
    width = min(CELL, (COLUMNS - LABEL) // max(1, len(cells)))
    return (f'{label[:LABEL]:{LABEL}}' + ''.join(
        f'{text[:width - 1]:>{width}}' for text in cells)).rstrip()


def screen_table(data: Data) -> List[str]:
    """The figures by mode."""
    modes = all_modes(data)
    names = [mode.partition('+') for mode in modes]
    head = [line(f"median of {counted(rounds(data), 'round')}",
                 [name for name, _, _ in names])]
    if any(more for _, _, more in names):
        head.append(line('', [plus + more for _, plus, more in names]))
    return head + [line(figure.label(data),
                        [cell(data, figure, mode) for mode in modes])
                   for figure in FIGURES]


def failure_text(run: Run) -> str:
    """A failure in a sentence."""
    return str(run.get('error') or f"{run.get('mode')}, round "
               f"{run.get('round')}, failed, and nobody wrote down why")


def screen_failures(data: Data, room: int) -> List[str]:
    """Failures, as many lines of them as there is room for."""
    lines: List[str] = []
    failed = failures(data)
    for done, run in enumerate(failed):
        # The last line may have to say that there are more.
        left = room - len(lines) - (done + 1 < len(failed))
        if left <= 0:
            lines.append(f'... and {len(failed) - done} more failures, which '
                         'are in the page.')
            break
        lines += textwrap.wrap(failure_text(run), COLUMNS - 2, max_lines=left,
                               initial_indent='* ', subsequent_indent='  ',
                               placeholder=' ...')
    return lines[:max(0, room)]


def summary(data: Data) -> str:
    """One screen."""
    check_schema(data)
    head = [f'Postcopy of {guest_text(data)}',
            f'{sentence(host_text(data))[:-1]}; {link_text(data)}',
            clock_text(data)]
    head = [textwrap.shorten(text, COLUMNS, placeholder=' ...')
            for text in head if text]
    result = verdict(data)
    end = textwrap.wrap(f'{result.word}: {result.text}.', COLUMNS, max_lines=4,
                        placeholder=' ...')
    parts = [head, screen_table(data), end]
    end += screen_failures(data, LINES - sum(len(part) for part in parts))
    # Blank lines are for a screen that has them to spare.
    spare = sum(len(part) for part in parts) + 2 <= LINES
    return ('\n\n' if spare else '\n').join('\n'.join(part) for part in parts)
