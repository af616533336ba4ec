# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a QEMU can do, as it says itself: a set of lines for each subject.  And in
what two of them differ, which is compared with what is known of that.
"""

from dataclasses import dataclass, field
import json
from pathlib import Path
import re
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Set,
)

from kuf.cli import Failure


# Runs QEMU with arguments and something on its standard input; returns what it
# prints.
Run = Callable[[List[str], str], str]

# What each subject's lines are got by.
HELP: Dict[str, List[str]] = {
    'option': ['--help'],
    'accel': ['-accel', 'help'],
    'audio': ['-audio', 'help'],
    'chardev': ['-chardev', 'help'],
    'cpu': ['-cpu', 'help'],
    'device': ['-device', 'help'],
    'display': ['-display', 'help'],
    'log': ['-d', 'help'],
    'machine': ['-machine', 'help'],
    'netdev': ['-netdev', 'help'],
    'object': ['-object', 'help'],
    'spice': ['-spice', 'help'],
    'tpm': ['-tpmdev', 'help'],
    'trace': ['-trace', 'help'],
    'vga': ['-vga', 'help'],
    'vnc': ['-vnc', 'help'],
}

# What is known of Debian's QEMU and ours.
DIFFERENCES = Path(__file__).with_name('differences')

NO_MACHINE = ['-machine', 'none', '-nodefaults', '-display', 'none']


def shown(run: Run, subject: str) -> Set[str]:
    """What it prints about a subject."""
    text = run([*NO_MACHINE, *HELP[subject]], '')
    return {' '.join(line.split()) for line in text.splitlines()} - {''}


def ask(run: Run, *commands: Dict[str, Any]) -> List[Any]:
    """What it answers to QMP commands."""
    said = [{'execute': 'qmp_capabilities'}, *commands, {'execute': 'quit'}]
    text = run([*NO_MACHINE, '-S', '-qmp', 'stdio'],
               ''.join(json.dumps(command) + '\n' for command in said))
    answers = [json.loads(line) for line in text.splitlines()
               if line.startswith('{')]
    returned = [answer['return'] for answer in answers if 'return' in answer]
    if len(returned) != len(said):
        raise Failure(f'QEMU did not answer to QMP: {text[-300:]}')
    return returned[1:-1]


class Schema:
    """
    What QMP takes and gives, a line for each member.  Types have no names that
    mean something, so they are spelled out, each once on the way to a member.
    """

    def __init__(self, entities: List[Dict[str, Any]]) -> None:
        self.types = {entity['name']: entity for entity in entities}

    def _members(self, entity: Dict[str, Any],
                 above: FrozenSet[str]) -> Iterator[str]:
        for member in entity.get('members', []):
            # An alternate's have no names.
            name = member.get('name', '')
            yield from (f'.{name}{line}'
                        for line in self.spell(member['type'], above))
        for variant in entity.get('variants', []):
            yield f"|{variant['case']}"
            yield from (f"|{variant['case']}{line}"
                        for line in self.spell(variant['type'], above))

    def _lines(self, entity: Dict[str, Any],
               above: FrozenSet[str]) -> Iterator[str]:
        kind = entity['meta-type']
        if kind == 'builtin':
            yield f":{entity['json-type']}"
        elif kind == 'enum':
            yield from (f'={value}' for value in entity.get('values', []))
        elif kind == 'array':
            yield from (f'[]{line}' for line in
                        self.spell(entity['element-type'], above))
        else:
            yield from self._members(entity, above)

    def spell(self, name: str, above: FrozenSet[str]) -> Iterator[str]:
        """The lines of a type, but for those that it is in."""
        if name in above:
            yield ':again'
        else:
            yield from self._lines(self.types[name], above | {name})

    def lines(self) -> Set[str]:
        """All of them."""
        found: Set[str] = set()
        for entity in self.types.values():
            if entity['meta-type'] not in ('command', 'event'):
                continue
            head = f"{entity['meta-type']} {entity['name']}"
            found.add(head)
            for way in ('arg-type', 'ret-type'):
                if way in entity:
                    found |= {f'{head} {way[:3]}{line}' for line in
                              self.spell(entity[way], frozenset())}
        return found


def abilities(run: Run) -> Dict[str, Set[str]]:
    """All of it."""
    found = {subject: shown(run, subject) for subject in HELP}
    schema, options, types = ask(
        run, {'execute': 'query-qmp-schema'},
        {'execute': 'query-command-line-options'},
        {'execute': 'qom-list-types'})
    found['qmp'] = Schema(schema).lines()
    found['parameter'] = {
        f"{option['option']}.{parameter['name']}:{parameter['type']}"
        for option in options for parameter in option['parameters']}
    found['type'] = {entry['name'] for entry in types}
    return found


@dataclass
class Known:
    """A difference that is meant to be, and why."""

    subject: str
    # + is more than the other has, - is less.
    sign: str
    pattern: str
    why: str
    seen: int = field(default=0)

    def is_of(self, subject: str, sign: str, line: str) -> bool:
        """Whether it explains that line."""
        return (subject, sign) == (self.subject, self.sign) and \
            re.fullmatch(self.pattern, line) is not None


def read_known(path: Path) -> List[Known]:
    """
    Those that a file lists: a paragraph each, "# why" and then lines with
    subject, sign, and a regular expression for what QEMU prints.
    """
    known: List[Known] = []
    for paragraph in path.read_text(encoding='utf-8').split('\n\n'):
        lines = paragraph.strip().splitlines()
        why = ' '.join(line[1:].strip() for line in lines
                       if line.startswith('#'))
        for line in lines:
            if line.startswith('#'):
                continue
            words = line.split(None, 2)
            if len(words) != 3 or words[1] not in ('+', '-') or not why:
                raise Failure(f"'{path}' has '{line}', which is not a subject,"
                              ' + or -, and a pattern, below a reason')
            known.append(Known(words[0], words[1], words[2], why))
    return known


def unexplained(ours: Dict[str, Set[str]], theirs: Dict[str, Set[str]],
                known: List[Known]) -> List[str]:
    """Differences that nobody knows of, and known ones that there are not."""
    wrong: List[str] = []
    for subject in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(subject, set()), theirs.get(subject, set())
        for sign, lines in (('+', mine - other), ('-', other - mine)):
            for line in sorted(lines):
                entries = [entry for entry in known
                           if entry.is_of(subject, sign, line)]
                for entry in entries:
                    entry.seen += 1
                if not entries:
                    wrong.append(f'{subject} {sign} {line}')
    return wrong + [f'{entry.subject} {entry.sign} {entry.pattern}: there is no'
                    ' such difference any more' for entry in known
                    if not entry.seen]
