# SPDX-License-Identifier: GPL-2.0-or-later
"""
What tests print: the Test Anything Protocol.
"""


def plan(count: int) -> None:
    """So many tests."""
    print(f'1..{count}', flush=True)


def comment(text: str) -> None:
    """Something for those who look on."""
    for line in text.splitlines():
        print(f'# {line}', flush=True)


def result(number: int, good: bool, text: str) -> None:
    """How a test ended."""
    print(f"{'' if good else 'not '}ok {number} - {text}", flush=True)
