# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the command line of programs that do something to a link.
"""

from contextlib import redirect_stderr
import io
from typing import Dict
import unittest

from kuf.devices.link_options import Named


NAMED = Named('point', {'early': {'first': 'in front', 'second': 'x ' * 40},
                        'late': {'last': 'behind'}},
              lambda text: text)


def asked(*names: str) -> Dict[str, str]:
    """What that command line asks for."""
    parser = NAMED.parser('program', 'What it does.')
    return NAMED.asked(parser, parser.parse_args(names).names)


class NamedTest(unittest.TestCase):
    """What can be asked for by name."""

    def test_names(self) -> None:
        """Alone and as a group, each once, in their order."""
        self.assertEqual(list(asked('last', 'early', 'first')),
                         ['last', 'first', 'second'])
        self.assertEqual(asked(), {})

    def test_unknown(self) -> None:
        """The command line is wrong."""
        said = io.StringIO()
        with redirect_stderr(said), self.assertRaises(SystemExit) as end:
            asked('first', 'nowhere')
        self.assertEqual(end.exception.code, 2)
        self.assertIn("no point or group 'nowhere'; --help lists them",
                      said.getvalue())

    def test_table(self) -> None:
        """Everything is in it, by groups, and no line is too long."""
        lines = NAMED.table().splitlines()
        self.assertEqual(lines[:2], ['points of the group early:',
                                     '  first' + ' ' * 23 + 'in front'])
        self.assertEqual(lines[-2:], ['points of the group late:',
                                      '  last' + ' ' * 24 + 'behind'])
        self.assertLess(max(map(len, lines)), 80)


if __name__ == '__main__':
    unittest.main()
