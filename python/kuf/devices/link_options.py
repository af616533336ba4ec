# SPDX-License-Identifier: GPL-2.0-or-later
"""
The command line of programs that do something to a migration's link: what that
can be has names, and groups.
"""

import argparse
import textwrap
from typing import (
    Callable,
    Dict,
    Generic,
    List,
    Mapping,
    TypeVar,
)

from kuf import cli
from kuf.devices import migration
from kuf.guest.devices import DEVICES


T = TypeVar('T')

# Where the text begins behind a name.
COLUMN = 30


class Named(Generic[T]):
    """All that can be asked for."""

    def __init__(self, kind: str, groups: Mapping[str, Mapping[str, T]],
                 describe: Callable[[T], str]):
        """
        @param kind: what one of them is called, in lower case
        """
        self.kind = kind
        self.groups = groups
        self.describe = describe
        self.all = {name: item for group in groups.values()
                    for name, item in group.items()}

    def _line(self, name: str, item: T) -> str:
        """One line, or two, of the table."""
        return textwrap.fill(
            f"  {name:{COLUMN - 2}}{self.describe(item)}", 78,
            subsequent_indent=' ' * COLUMN)

    def table(self) -> str:
        """What there is."""
        return '\n'.join(
            '\n'.join([f'{self.kind}s of the group {group}:',
                       *(self._line(*item) for item in items.items())])
            for group, items in self.groups.items())

    def parser(self, prog: str, doc: str) -> argparse.ArgumentParser:
        """Ends with names; options can be added."""
        parser = cli.parser(prog, doc, epilog=self.table())
        migration.add_options(parser)
        parser.add_argument('--no-preempt', dest='preempt',
                            action='store_false',
                            help='there is only one connection')
        parser.add_argument('--device', default='virtio-blk',
                            choices=list(DEVICES), metavar='DEVICE',
                            help="the guest's device beside the display, one "
                            "of host/oracle's [virtio-blk]")
        migration.add_log_options(parser)
        parser.add_argument('names', metavar=self.kind.upper(), nargs='*',
                            help=f'a {self.kind} or a group of them, see '
                            'below; all that there are [if none is drawn]')
        return parser

    def asked(self, parser: argparse.ArgumentParser,
              names: List[str]) -> Dict[str, T]:
        """Those with these names, and those of these groups."""
        found: Dict[str, T] = {}
        for name in names:
            if name in self.groups:
                found.update(self.groups[name])
            elif name in self.all:
                found[name] = self.all[name]
            else:
                parser.error(f"no {self.kind} or group '{name}'; --help lists "
                             'them')
        return found
