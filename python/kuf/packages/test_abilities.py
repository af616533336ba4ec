# SPDX-License-Identifier: GPL-2.0-or-later
"""
Differences between two QEMUs are found, whatever is known of them.
"""

from pathlib import Path
import re
import tempfile
from typing import Any, Dict, List
import unittest

from kuf.cli import Failure
from kuf.packages.abilities import (
    DIFFERENCES,
    Known,
    Schema,
    read_known,
    unexplained,
)
from kuf.paths import TOP


# In a patch: an event that it adds.
EVENT = re.compile(r'^\+(\w+)\(', re.M)


SCHEMA: List[Dict[str, Any]] = [
    {'meta-type': 'command', 'name': 'set', 'arg-type': '1', 'ret-type': '2'},
    {'meta-type': 'object', 'name': '1', 'members': [
        {'name': 'mode', 'type': '3'}, {'name': 'more', 'type': '4'}]},
    {'meta-type': 'object', 'name': '2', 'members': []},
    {'meta-type': 'enum', 'name': '3', 'values': ['off', 'on']},
    {'meta-type': 'array', 'name': '4', 'element-type': '1'},
    {'meta-type': 'event', 'name': 'DONE', 'arg-type': '5'},
    {'meta-type': 'object', 'name': '5',
     'members': [{'name': 'as', 'type': '3'}], 'tag': 'as',
     'variants': [{'case': 'on', 'type': '6'}]},
    {'meta-type': 'object', 'name': '6',
     'members': [{'name': 'size', 'type': 'int'}]},
    {'meta-type': 'builtin', 'name': 'int', 'json-type': 'int'},
]


class SchemaTest(unittest.TestCase):
    """QMP's schema, spelled out."""

    def test_lines(self) -> None:
        """Members, values, variants, and types that are in themselves."""
        self.assertEqual(Schema(SCHEMA).lines(), {
            'command set', 'command set arg.mode=off',
            'command set arg.mode=on', 'command set arg.more[]:again',
            'event DONE', 'event DONE arg.as=off', 'event DONE arg.as=on',
            'event DONE arg|on', 'event DONE arg|on.size:int'})

    def test_numbers(self) -> None:
        """What types are called makes no difference."""
        other = [dict(entity) for entity in SCHEMA]
        for entity in other:
            for key in ('name', 'arg-type', 'ret-type', 'element-type'):
                if entity.get(key, '').isdigit():
                    entity[key] = f'9{entity[key]}'
            for key in ('members', 'variants'):
                if key in entity:
                    entity[key] = [
                        {**part, 'type': part['type'] if part['type'] == 'int'
                         else f"9{part['type']}"} for part in entity[key]]
        self.assertEqual(Schema(other).lines(), Schema(SCHEMA).lines())


class KnownTest(unittest.TestCase):
    """The list of what is known."""

    def known(self, text: str) -> List[Known]:
        """That in a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'differences'
            path.write_text(text, encoding='utf-8')
            return read_known(path)

    def test_all_known(self) -> None:
        """Each difference has an entry, each entry a difference."""
        known = self.known('# It is new\n# here.\ndevice + new-.*\n\n'
                           '# Not built.\ndevice - old\n')
        self.assertEqual(known[0].why, 'It is new here.')
        self.assertEqual(
            unexplained({'device': {'new-a', 'new-b', 'same'}},
                        {'device': {'old', 'same'}}, known), [])

    def test_unknown(self) -> None:
        """What has none is said, on either side and in any subject."""
        self.assertEqual(
            unexplained({'device': {'a'}, 'cpu': {'x'}}, {'device': {'b'}},
                        []),
            ['cpu + x', 'device + a', 'device - b'])
        known = self.known('# why\ndevice + a\n')
        self.assertEqual(unexplained({'device': {'a', 'ab'}}, {}, known),
                         ['device + ab'])
        self.assertIn('cpu + a', unexplained({'cpu': {'a'}}, {}, known))

    def test_gone(self) -> None:
        """An entry without a difference is said."""
        self.assertEqual(
            unexplained({'cpu': {'a'}}, {'cpu': {'a'}},
                        self.known('# why\ncpu + a\n')),
            ['cpu + a: there is no such difference any more'])

    def test_refused(self) -> None:
        """A line that is not understood, or has no reason."""
        for text in ('cpu + a\n', '# why\ncpu a\n', '# why\n\ncpu + a\n',
                     '# why\ncpu * a\n'):
            with self.assertRaisesRegex(Failure, 'below a reason'):
                self.known(text)


class PatchesTest(unittest.TestCase):
    """What can be told without the packages."""

    def test_trace_events(self) -> None:
        """Each event that a patch adds is known, whoever adds it."""
        known = read_known(DIFFERENCES)
        events = {event for patch in (TOP / 'patches').glob('*.patch')
                  for part in patch.read_text(encoding='utf-8').split('\ndiff ')
                  if part.splitlines()[0].endswith('/trace-events')
                  for event in EVENT.findall(part)}
        self.assertGreater(len(events), 20)
        for event in sorted(events):
            self.assertTrue(any(entry.is_of('trace', '+', event)
                                for entry in known),
                            f"'{event}' is not in {DIFFERENCES.name}")


if __name__ == '__main__':
    unittest.main()
