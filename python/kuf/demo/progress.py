# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is shown while migrations run: one line that changes on a terminal,
elsewhere a line for each phase.
"""

import shutil

from kuf.demo.hop import Progress


class Display:
    """Whoever looks on."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.title = ''
        self.phase = ''

    def begin(self, title: str) -> None:
        """What is done next."""
        self.title = title
        self.phase = ''

    def show(self, now: Progress) -> None:
        """The state of a migration."""
        text = (f'{self.title}: {now.phase}, {now.seconds:.0f} s, '
                f'{now.remaining_kb >> 10} MB left, '
                f'{now.mbps / 8:.0f} MB/s, {now.requests} requests, '
                f'guest {now.guest_rate:,.0f} pages/s')
        if self.terminal:
            self.replace(text)
        elif now.phase != self.phase:
            print(text, flush=True)
        self.phase = now.phase

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.terminal:
            self.replace('')
        print(text, flush=True)

    @staticmethod
    def replace(text: str) -> None:
        """Another text in the same line."""
        width = shutil.get_terminal_size().columns - 1
        print(f'\r\033[K{text[:width]}', end='', flush=True)
