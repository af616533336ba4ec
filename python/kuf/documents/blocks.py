# SPDX-License-Identifier: GPL-2.0-or-later
"""
Generated parts of documents.

In a document, between

    <!-- generated: NAME -->

    <!-- end -->

is what the function of that name returns; all else is written by people.  In
reStructuredText the lines begin with ".." and have no end.
"""

import re
from textwrap import wrap
from typing import Callable, Dict, Iterator

from kuf.cli import Failure


Blocks = Dict[str, Callable[[], str]]

BLOCK = re.compile(
    r'^(?P<begin>(?P<indent> *)(?:<!--|\.\.) generated: (?P<name>[\w-]+)'
    r'(?: -->)?\n)'
    r'(?P<text>.*?)'
    r'^(?P<end> *(?:<!--|\.\.) end(?: -->)?\n)', re.M | re.S)
COLUMNS = 80
# How lines begin that are no prose: of tables, pictures, directives.
WHOLE = '|!.'
MARK = re.compile(r'^ *(?:<!--|\.\.) generated: ', re.M)


def wrapped(text: str) -> Iterator[str]:
    """Lines, those of prose no longer than 80 columns."""
    for line in text.split('\n'):
        if len(line) <= COLUMNS or line.lstrip()[0] in WHOLE:
            yield line
        else:
            yield from wrap(line, COLUMNS, break_on_hyphens=False,
                            subsequent_indent=' ' * 2 * line.startswith('* '))


def fill(text: str, blocks: Blocks, where: str) -> str:
    """The document, with all of its blocks made anew."""
    if len(MARK.findall(text)) != len(BLOCK.findall(text)):
        raise Failure(f'{where}: a generated part has no name or no end; see '
                      'kuf/documents/blocks.py')

    def make(match: 're.Match[str]') -> str:
        name = match['name']
        if name not in blocks:
            raise Failure(f"{where}: nothing generates '{name}'; there are: "
                          + ', '.join(sorted(blocks)))
        lines = (match['indent'] + line if line else ''
                 for line in wrapped(blocks[name]().strip('\n')))
        return match['begin'] + '\n'.join(['', *lines, '', match['end']])
    return BLOCK.sub(make, text)
