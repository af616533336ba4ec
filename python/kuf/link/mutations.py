# SPDX-License-Identifier: GPL-2.0-or-later
"""
How a migration stream can be wrong, from the switch to postcopy to its end.

What nobody can notice who gets the stream is not here, for there is no checksum
in it: other contents of a page, of a device's state or of a list of old pages;
a page that is missing under another missing page's offset, or taken for one of
another block; a list of old pages, or a device's section, that does not come.
"""

import random
import struct
from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from kuf.link.stream import (
    COMMAND_DISCARD,
    COMMAND_PACKAGED,
    COMMAND_PING,
    PAGE,
    PONG_LOADED,
    RAM_CONTINUE,
    RAM_EOS,
    RAM_MEM_SIZE,
    RAM_PAGE,
    RAM_ZERO,
    SECTION_COMMAND,
    SECTION_CONFIGURATION,
    SECTION_EOF,
    SECTION_FOOTER,
    SECTION_PART,
    SECTION_START,
    Channel,
    Mark,
    Memory,
)


SECTION_FULL = 0x04
SECTION_SUBSECTION = 0x05
SECTION_DESCRIPTION = 0x06

COMMANDS = {'open-return-path': 1, 'ping': 2, 'advise': 3, 'listen': 4,
            'run': 5, 'discard': 6, 'packaged': 7, 'enable-colo': 8,
            'resume': 9, 'recv-bitmap': 10, 'switchover-start': 11}
MESSAGES = {'shut': 1, 'pong': 2, 'request-id': 3, 'request': 4, 'bitmap': 5,
            'resume-ack': 6, 'switchover-ack': 7}
# Requests that all channels have are behind a header of so many bytes.
MESSAGE_HEADER = 4
COMMAND_HEADER = 5
PACKAGE_HEADER = 9
# The source gives the guest up, the destination waits for that, and huge pages
# come in pieces; see migration/postcopy-commit.c and postcopy-pieces.c.
SPECIAL = (0x4b554601, 0x4b554602, 0x4b554603, 0x4b554604, 0x4b554605,
           0x4b554606)
PINGS = (2, PONG_LOADED, 4, *SPECIAL)
# The guest runs when so many pages were asked for after device load.
RUNS = 5
END_MARK = 0x0123456789abcdef
RESUMED = 1


# --- What streams are made of ---

def number(value: int, size: int) -> bytes:
    """As it is in a stream."""
    return (value % (1 << 8 * size)).to_bytes(size, 'big')


def string(text: bytes) -> bytes:
    """A length and so many characters."""
    return number(len(text), 1) + text


def command(what: int, data: bytes = b'') -> bytes:
    """A command of the main channel."""
    return number(SECTION_COMMAND, 1) + number(what, 2) + \
        number(len(data), 2) + data


def message(kind: int, data: bytes) -> bytes:
    """One of the return path."""
    return number(kind, 2) + number(len(data), 2) + data


def request(start: int, length: int = PAGE,
            block: Optional[bytes] = None) -> bytes:
    """A request for pages, of the block of the one before if there is none."""
    data = number(start, 8) + number(length, 4)
    if block is None:
        return message(MESSAGES['request'], data)
    return message(MESSAGES['request-id'], data + string(block))


class Page(NamedTuple):
    """A page with its header."""
    offset: int
    flags: int
    # With its length, or nothing.
    name: bytes
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> 'Page':
        """As it is in a stream."""
        header = int.from_bytes(data[:8], 'big')
        end = 8 if header & RAM_CONTINUE else 9 + data[8]
        return cls(header & -PAGE, header % PAGE, data[8:end], data[end:])

    def pack(self) -> bytes:
        """The same."""
        return number(self.offset | self.flags, 8) + self.name + self.body

    def named(self, block: str) -> 'Page':
        """It says of which block it is."""
        return self._replace(flags=self.flags & ~RAM_CONTINUE,
                             name=string(block.encode()))

    @property
    def goes_on(self) -> bool:
        """It is of the block of the page before."""
        return bool(self.flags & RAM_CONTINUE)


def package_parts(data: bytes) -> Tuple[List[slice], List[slice]]:
    """
    The commands in a package, and its sections, as places in it.  Where a
    section ends only its device knows; there is its footer.
    """
    commands, sections = [], []
    at = PACKAGE_HEADER
    while at < len(data):
        if data[at] == SECTION_COMMAND:
            end = at + COMMAND_HEADER + int.from_bytes(data[at + 3:at + 5],
                                                       'big')
            commands.append(slice(at, end))
        elif data[at] == SECTION_FULL:
            footer = number(SECTION_FOOTER, 1) + data[at + 1:at + 5]
            end = data.index(footer, at + 5) + 5
            while data[end] not in (SECTION_COMMAND, SECTION_FULL):
                end = data.index(footer, end) + 5
            sections.append(slice(at, end))
        else:
            raise ValueError(f'a package with a section of kind {data[at]}')
        at = end
    return commands, sections


# --- What is done to them ---

class Part(NamedTuple):
    """A part that is to be changed, and what may be needed for that."""
    rng: random.Random
    mark: Mark
    data: bytes
    memory: Memory
    # Pages that have come in precopy and are not old, by block.
    present: Dict[str, List[int]]
    # The package, once it has been seen.
    package: bytes

    @property
    def page(self) -> Page:
        """It is one."""
        return Page.of(self.data)

    def size(self, block: str) -> int:
        """Of a block, in bytes."""
        return len(self.memory.present[block]) * PAGE


# What comes instead; None if it can't be done to this part, but maybe to one
# that follows.
Change = Callable[[Part], Optional[bytes]]
Wanted = Callable[[Mark, Memory], bool]


def flip(part: Part, first: int, end: int) -> bytes:
    """A bit of these bytes is another one."""
    data = bytearray(part.data)
    data[part.rng.randrange(first, end)] ^= 1 << part.rng.randrange(8)
    return bytes(data)


def flipped(first: int, end: int) -> Change:
    """A bit of these bytes is another one."""
    return lambda part: flip(part, first, min(end, len(part.data)))


def lost(_part: Part) -> bytes:
    """It does not come."""
    return b''


def twice(part: Part) -> bytes:
    """It comes twice."""
    return part.data + part.data


def before(*what: bytes) -> Change:
    """One of these comes before it."""
    return lambda part: part.rng.choice(what) + part.data


def head_lost(size: int) -> Change:
    """The first bytes of a header do not come, but some of it."""
    return lambda part: part.data[
        part.rng.randrange(1, min(size, len(part.data))):]


def garbage(part: Part) -> bytes:
    """Anything comes before it, but no end."""
    return number(part.rng.randrange(1, 256), 1) + \
        part.rng.randbytes(part.rng.randrange(1, 64)) + part.data


def only(change: Change, test: Callable[[Part], bool]) -> Change:
    """It is done where that is true."""
    return lambda part: change(part) if test(part) else None


def goes_on(part: Part) -> bool:
    """
    Nothing that follows is taken for another block's, whatever becomes of it.
    """
    return part.page.goes_on


# --- Pages ---

def page_flags(part: Part) -> bytes:
    """No flags that there are; "continue" stays."""
    page = part.page
    bit = part.rng.choice([bit for bit in range(12)
                           if 1 << bit != RAM_CONTINUE])
    return page._replace(flags=page.flags ^ 1 << bit).pack()


def page_not_continued(part: Part) -> Optional[bytes]:
    """Its contents are taken for a block's name."""
    page = part.page
    if not page.goes_on:
        return None
    return page._replace(flags=page.flags & ~RAM_CONTINUE).pack()


def page_beyond(part: Part) -> bytes:
    """A bit of its offset is another one, so that it is beyond the block."""
    page, size = part.page, part.size(part.mark.block)
    offset = part.rng.choice([page.offset ^ 1 << bit for bit in range(12, 64)
                              if page.offset ^ 1 << bit >= size])
    return page._replace(offset=offset).pack()


def page_instead(part: Part) -> Optional[bytes]:
    """It comes as one that is there, and must not be replaced."""
    present = part.present.get(part.mark.block)
    if not present:
        return None
    return part.page._replace(offset=part.rng.choice(present)).pack()


def page_of_nothing(part: Part) -> bytes:
    """A bit of its block's name is another one."""
    page = part.page.named(part.mark.block)
    name = bytearray(page.name)
    name[part.rng.randrange(1, len(name))] ^= 1 << part.rng.randrange(8)
    return page._replace(name=bytes(name)).pack()


def page_of_other(part: Part) -> Optional[bytes]:
    """One of another block comes before it, and must not replace its page."""
    others = [name for name, pages in part.present.items()
              if pages and name != part.mark.block]
    if not others:
        return None
    name = part.rng.choice(others)
    page = Page(part.rng.choice(part.present[name]), RAM_PAGE, b'',
                part.rng.randbytes(PAGE)).named(name)
    return page.pack() + part.page.named(part.mark.block).pack()


def page_name_length(part: Part) -> bytes:
    """A bit of the length of its block's name is another one."""
    page = part.page.named(part.mark.block)
    length = page.name[0] ^ 1 << part.rng.randrange(8)
    return page._replace(name=number(length, 1) + page.name[1:]).pack()


def zero_page(part: Part) -> Optional[bytes]:
    """All bytes of a page are the same, and not zero."""
    page = part.page
    if not page.flags & RAM_ZERO:
        return None
    return page._replace(body=number(part.rng.randrange(1, 256), 1)).pack()


PAGES: Dict[str, Tuple[str, Change]] = {
    'flags': ("a bit of a page's flags", page_flags),
    'not-continued': ('a page says that a name follows, and none does',
                      page_not_continued),
    'beyond': ('a bit of an offset, which is beyond the block then',
               page_beyond),
    'instead': ('a page comes as one that is there', page_instead),
    'no-block': ("a bit of a block's name", page_of_nothing),
    'name-length': ("a bit of the length of a block's name", page_name_length),
    'other-block': ('a page of another block, that is there, comes before',
                    page_of_other),
    'zero': ('a zero page is not zero', zero_page),
    'lost': ('a page does not come', only(lost, goes_on)),
    'twice': ('a page comes twice', twice),
    'head-lost': ("some of a page's header does not come",
                  only(head_lost(8), goes_on)),
    'garbage': ('garbage comes before a page', garbage),
    'list': ('a list of blocks comes before a page',
             before(number(16 * PAGE | RAM_MEM_SIZE, 8) + string(b'pc.ram') +
                    number(16 * PAGE, 8))),
    'end': ('an end comes before a page', before(number(RAM_EOS, 8))),
}


# --- Commands and sections ---

def ram_section(kind: int, data: bytes, id_: int = 2) -> bytes:
    """A section that says that it is RAM."""
    start = string(b'ram') + number(0, 4) + number(4, 4) \
        if kind == SECTION_START else b''
    return number(kind, 1) + number(id_, 4) + start + data + \
        number(RAM_EOS, 8) + number(SECTION_FOOTER, 1) + number(id_, 4)


def device_section(part: Part) -> Optional[bytes]:
    """A device's state comes again, and not in the package."""
    if not part.package:
        return None
    _, sections = package_parts(part.package)
    return part.package[part.rng.choice(sections)] + part.data


def package_again(part: Part) -> Optional[bytes]:
    """All of them."""
    return part.package + part.data if part.package else None


ADVISE = number(PAGE, 8) * 2
DISCARD = b'\0' + string(b'pc.ram') + b'\0' + number(0, 8) + number(PAGE, 8)

FOREIGN: Dict[str, Tuple[str, Change]] = {
    'advise': ('ADVISE', before(command(COMMANDS['advise'], ADVISE),
                                command(COMMANDS['advise']))),
    'listen': ('LISTEN', before(command(COMMANDS['listen']))),
    'run': ('RUN', before(command(COMMANDS['run']))),
    'discard': ('a list of old pages',
                before(command(COMMAND_DISCARD, DISCARD))),
    'package': ('the package again', package_again),
    'empty-package': ('an empty package',
                      before(command(COMMAND_PACKAGED, bytes(4))[:3] +
                             number(4, 2) + bytes(4))),
    'colo': ('ENABLE_COLO', before(command(COMMANDS['enable-colo']))),
    'return-path': ('OPEN_RETURN_PATH',
                    before(command(COMMANDS['open-return-path']))),
    'resume': ('RESUME', before(command(COMMANDS['resume']))),
    'recv-bitmap': ('RECV_BITMAP', before(
        command(COMMANDS['recv-bitmap'], string(b'pc.ram')),
        command(COMMANDS['recv-bitmap'], string(b'foreign')))),
    'switchover-start': ('SWITCHOVER_START',
                         before(command(COMMANDS['switchover-start']))),
    'ping': ('a PING with a meaning', before(*(
        command(COMMAND_PING, number(value, 4)) for value in PINGS))),
    'unknown-command': ('a command that there is not', before(
        command(0), command(12), command(0x7fff, bytes(100)))),
    'device': ("a device's state again", device_section),
    'unknown-section': ('a section of a kind that there is not', before(
        *(number(kind, 1) + bytes(64)
          for kind in (SECTION_SUBSECTION, SECTION_DESCRIPTION,
                       SECTION_CONFIGURATION, SECTION_FOOTER, 0x55, 0xff)))),
    'unknown-device': ('a section of a device that there is not', before(
        number(SECTION_FULL, 1) + number(99, 4) + string(b'foreign') +
        bytes(8), ram_section(SECTION_PART, b'', 0x7777))),
    'device-part': ("a part of a device's state, which has none", lambda part:
                    number(SECTION_PART, 1) +
                    number(part.rng.randrange(64), 4) + bytes(64) + part.data),
    'setup': ('what RAM begins with in precopy', before(
        ram_section(SECTION_START, number(16 * PAGE | RAM_MEM_SIZE, 8) +
                    string(b'pc.ram') + number(16 * PAGE, 8)))),
    'end-of-stream': ("the stream's end", before(number(SECTION_EOF, 1))),
    'garbage': ('garbage', garbage),
}

SECTIONS: Dict[str, Tuple[str, str, Change]] = {
    'kind': ("a bit of a section's kind", 'section', flipped(0, 1)),
    'id': ("a bit of a section's number", 'section', flipped(1, 5)),
    'lost': ("a section's start does not come", 'section', lost),
    'twice': ("a section's start comes twice", 'section', twice),
    'head-lost': ("some of a section's start does not come", 'section',
                  head_lost(5)),
    'eos': ("a bit of the mark behind a section's pages", 'eos',
            flipped(0, 8)),
    'eos-lost': ('it does not come', 'eos', lost),
    'eos-twice': ('it comes twice', 'eos', twice),
    'footer': ("a bit of a section's footer", 'footer', flipped(0, 5)),
    'footer-lost': ('it does not come', 'footer', lost),
    'footer-twice': ('it comes twice', 'footer', twice),
    'footer-head-lost': ('some of it does not come', 'footer', head_lost(5)),
}


# --- The package, and what comes with it ---

def inner(part: Part, where: slice, change: Change) -> bytes:
    """Something in the package is changed, and its length is right."""
    what = change(part._replace(data=part.data[where]))
    assert what is not None
    rest = part.data[PACKAGE_HEADER:where.start] + what + \
        part.data[where.stop:]
    return part.data[:PACKAGE_HEADER - 4] + number(len(rest), 4) + rest


def of_command(which: str, change: Change) -> Change:
    """A command in the package."""
    def do(part: Part) -> Optional[bytes]:
        commands, _ = package_parts(part.data)
        for where in commands:
            if part.data[where.start + 1:where.start + 3] == \
                    number(COMMANDS[which], 2):
                return inner(part, where, change)
        return None
    return do


def of_section(change: Change) -> Change:
    """A section in it."""
    def do(part: Part) -> Optional[bytes]:
        _, sections = package_parts(part.data)
        return inner(part, part.rng.choice(sections), change)
    return do


def section_head(part: Part) -> bytes:
    """All of a section's head but the version, whose older ones there are."""
    name = part.data[5]
    places = [*range(1, 10 + name), 13 + name]
    data = bytearray(part.data)
    data[part.rng.choice(places)] ^= 1 << part.rng.randrange(8)
    return bytes(data)


def package_longer(part: Part) -> bytes:
    """Some of what follows is taken for the package's."""
    length = int.from_bytes(part.data[5:9], 'big')
    return part.data[:5] + number(length + part.rng.randrange(1, 4096), 4) + \
        part.data[9:]


def package_shorter(part: Part) -> bytes:
    """Some of it is taken for what follows."""
    length = int.from_bytes(part.data[5:9], 'big')
    return part.data[:5] + number(part.rng.randrange(length), 4) + \
        part.data[9:]


def discard_beyond(part: Part) -> bytes:
    """A bit of a start or a length, so that it is beyond the block."""
    at = COMMAND_HEADER + 3 + part.data[COMMAND_HEADER + 1]
    where = at + part.rng.choice([0, 8])
    value = int.from_bytes(part.data[where:where + 8], 'big')
    return part.data[:where] + \
        number(value | 1 << part.rng.randrange(36, 64), 8) + \
        part.data[where + 8:]


def discard_head(part: Part) -> bytes:
    """A bit of what comes before the ranges."""
    return flip(part, 0, COMMAND_HEADER + 3 + part.data[COMMAND_HEADER + 1])


PACKAGE: Dict[str, Tuple[str, Change]] = {
    'head': ("a bit of the package's header", flipped(0, 5)),
    'length': ("a bit of its length", flipped(5, 9)),
    'longer': ('it says that it is longer', package_longer),
    'shorter': ('it says that it is shorter', package_shorter),
    'twice': ('it comes twice', twice),
    'lost': ('it does not come', lost),
    'end-lost': ('its last bytes do not come', lambda part:
                 part.data[:-part.rng.randrange(1, 4096)]),
    'listen-lost': ('there is no LISTEN in it', of_command('listen', lost)),
    'listen-twice': ('there are two', of_command('listen', twice)),
    'run-lost': ('there is no RUN in it', of_command('run', lost)),
    'ping-lost': ('there is no PING in it', of_command('ping', lost)),
    'ping-twice': ('there are two', of_command('ping', twice)),
    'command': ('a bit of a command in it', lambda part: inner(
        part, part.rng.choice(package_parts(part.data)[0]),
        flipped(0, COMMAND_HEADER))),
    'section': ("a bit of a device's header", of_section(section_head)),
    'footer': ("a bit of a device's footer", of_section(
        lambda part: flip(part, len(part.data) - 5, len(part.data)))),
    'section-twice': ("a device's state comes twice", of_section(twice)),
    'section-cut': ("some of a device's state does not come", of_section(
        lambda part: part.data[:part.rng.randrange(14, len(part.data))])),
    'advise': ('there is an ADVISE in it', of_command('run', before(
        command(COMMANDS['advise'], ADVISE)))),
    'package': ('there is a package in it', of_command('run', lambda part:
                                                       part.package +
                                                       part.data)),
    'early-run': ('there is a RUN before the devices', of_command(
        'listen', lambda part: part.data + command(COMMANDS['run']))),
}

DISCARDS: Dict[str, Tuple[str, Change]] = {
    'head': ('a bit of what a list of old pages begins with', discard_head),
    'beyond': ('old pages that are beyond the block', discard_beyond),
    'twice': ('a list of old pages comes twice', twice),
}


# --- What goes to the source ---

def block_size(part: Part) -> int:
    """Of the block of a request, if that is known."""
    return part.size(part.mark.block or 'pc.ram')


def request_change(**changes: Callable[[Part], int]) -> Change:
    """A request with another start or length."""
    def do(part: Part) -> bytes:
        start, length = struct.unpack_from('>QI', part.data, MESSAGE_HEADER)
        start = changes['start'](part) if 'start' in changes else start
        length = changes['length'](part) if 'length' in changes else length
        return part.data[:MESSAGE_HEADER] + number(start, 8) + \
            number(length, 4) + part.data[MESSAGE_HEADER + 12:]
    return do


def request_name(part: Part) -> Optional[bytes]:
    """A block that there is not."""
    return before(request(0, PAGE, b'foreign'), request(0, PAGE, b''),
                  request(0, PAGE, b'x' * 255),
                  request(0, PAGE, b'pc.ram\0'))(part)


def request_length(part: Part) -> bytes:
    """A message whose length is not that of what is in it."""
    kind = part.rng.choice([MESSAGES['request'], MESSAGES['request-id']])
    data = number(0, 8) + number(PAGE, 4) + string(b'pc.ram')
    size = part.rng.choice([0, 1, 11, 13, 18, 20, 200, 512, 513, 65535])
    return number(kind, 2) + number(size, 2) + (data + bytes(size))[:size] + \
        part.data


REQUESTS: Dict[str, Tuple[str, Change]] = {
    'beyond': ('a request for a page beyond the block', request_change(
        start=lambda part: block_size(part) +
        PAGE * part.rng.choice([0, 1, 1 << 20, 1 << 51]))),
    'wrap': ('a request that ends before it begins', request_change(
        start=lambda part: -PAGE, length=lambda part: 2 * PAGE)),
    'across': ("a request across the block's end", request_change(
        start=lambda part: block_size(part) - PAGE,
        length=lambda part: 2 * PAGE)),
    'unaligned': ('a request for a place in a page', request_change(
        start=lambda part: part.mark.value + part.rng.randrange(1, PAGE))),
    'no-length': ('a request for nothing', request_change(
        length=lambda part: 0)),
    'odd-length': ('a request for a part of a page', request_change(
        length=lambda part: part.rng.randrange(1, PAGE))),
    'long': ('a request for all of a block', request_change(
        start=lambda part: 0, length=block_size)),
    'bit': ('a bit of a request', flipped(0, 1 << 16)),
    'name': ('a request for a page of a block that there is not',
             request_name),
    'message-length': ('a request of a wrong length', request_length),
    'lost': ('a request does not come', lost),
    'twice': ('a request comes twice', twice),
    'head-lost': ('some of a request does not come', head_lost(16)),
}

FOREIGN_MESSAGES: Dict[str, Tuple[str, Change]] = {
    'pong': ('a PONG with a meaning', before(*(
        message(MESSAGES['pong'], number(value, 4)) for value in PINGS))),
    'shut': ('the end', before(message(MESSAGES['shut'], number(0, 4)))),
    'shut-error': ('an end with an error',
                   before(message(MESSAGES['shut'], number(1, 4)))),
    'bitmap': ('a bitmap', before(
        message(MESSAGES['bitmap'], string(b'pc.ram')) + number(8192, 8) +
        bytes(8192) + number(END_MARK, 8),
        message(MESSAGES['bitmap'], string(b'foreign')) + number(8, 8) +
        bytes(8) + number(END_MARK, 8))),
    'resume-ack': ('RESUME_ACK', before(
        message(MESSAGES['resume-ack'], number(RESUMED, 4)),
        message(MESSAGES['resume-ack'], number(2, 4)))),
    'switchover-ack': ('SWITCHOVER_ACK',
                       before(message(MESSAGES['switchover-ack'], b''))),
    'unknown': ('a message that there is not', before(
        message(0, b''), message(8, bytes(4)), message(0xffff, bytes(100)))),
    'garbage': ('garbage', garbage),
}


# --- The recovery ---

def bitmap_name_end(part: Part) -> int:
    """Where the bitmap's size is."""
    return MESSAGE_HEADER + 1 + part.data[MESSAGE_HEADER]


def bitmap_bit(part: Part) -> Optional[bytes]:
    """A page that is not there is said to be, or the other way round."""
    first = bitmap_name_end(part) + 8
    return flip(part, first, len(part.data) - 8)


REQUEST_FIRST = before(request(0, PAGE, b'pc.ram'))

BITMAPS: Dict[str, Tuple[str, Change]] = {
    'head': ("a bit of a bitmap's header, or of its block's name",
             lambda part: flip(part, 0, bitmap_name_end(part))),
    'size': ("a bit of a bitmap's size", lambda part: flip(
        part, bitmap_name_end(part), bitmap_name_end(part) + 8)),
    'bit': ('a bit of a bitmap', bitmap_bit),
    'mark': ("a bit of the mark at a bitmap's end", lambda part: flip(
        part, len(part.data) - 8, len(part.data))),
    'cut': ('some bytes of a bitmap do not come', lambda part:
            part.data[:-part.rng.randrange(1, len(part.data) - 16)]),
    'lost': ('a bitmap does not come', lost),
    'twice': ('a bitmap comes twice', twice),
    'request': ('a request before a bitmap', REQUEST_FIRST),
    'resumed': ('RESUME_ACK before a bitmap', before(
        message(MESSAGES['resume-ack'], number(RESUMED, 4)))),
}

RESUMES: Dict[str, Tuple[str, Change]] = {
    'bit': ('a bit of RESUME_ACK', flipped(0, 8)),
    'lost': ('RESUME_ACK does not come', lost),
    'twice': ('RESUME_ACK comes twice', twice),
    'request': ('a request before RESUME_ACK', REQUEST_FIRST),
}

RECOVERY_COMMANDS: Dict[str, Tuple[str, Change]] = {
    'bit': ('a bit of a command', flipped(0, 1 << 16)),
    'lost': ('a command does not come', lost),
    'twice': ('a command comes twice', twice),
    'head-lost': ('some of a command does not come', head_lost(16)),
    'page': ('a page before all', before(Page(
        0, RAM_PAGE, string(b'pc.ram'), bytes(PAGE)).pack())),
    'section': ('a section before all', before(
        ram_section(SECTION_PART, b''))),
    'resume': ('RESUME before all', before(command(COMMANDS['resume']))),
}


# --- When ---

class Moment(NamedTuple):
    """When it is done."""
    what: str
    # Is this the time?
    test: Callable[[Memory], bool]
    # So many parts are left alone then.
    skip: int = 0


def any_time(_rng: random.Random) -> Moment:
    """At once."""
    return Moment('the first one', lambda memory: True)


def few(rng: random.Random) -> Moment:
    """There are only some."""
    skip = rng.randrange(3)
    return Moment(f'after {skip} of them', lambda memory: True, skip)


def missing(low: float, high: float) -> 'When':
    """So much is missing, and the guest runs."""
    def moment(rng: random.Random) -> Moment:
        fraction, skip = rng.uniform(low, high), rng.randrange(3)
        return Moment(
            f'{fraction:.3f} missing, after {skip}', lambda memory:
            memory.faults >= RUNS and
            memory.missing <= fraction * memory.missed, skip)
    return moment


running = missing(0.3, 0.95)
# In the end little is asked for.
asking = missing(0.5, 0.95)


def listening(rng: random.Random) -> Moment:
    """While devices are being loaded, if so much is asked for then."""
    skip = int(2 ** (rng.random() * 7))
    return Moment(f'after the package and {skip}',
                  lambda memory: memory.postcopy, skip)


def early(rng: random.Random) -> Moment:
    """The package is there, and little else."""
    skip = rng.randrange(2)
    return Moment(f'after the package and {skip}',
                  lambda memory: memory.postcopy, skip)


When = Callable[[random.Random], Moment]


def either(*moments: When) -> When:
    """One of these."""
    return lambda rng: rng.choice(moments)(rng)


# --- The table ---

class Mutation(NamedTuple):
    """A way in which a stream is wrong."""
    what: str
    channel: Channel
    wanted: Wanted
    change: Change
    when: When = any_time
    # The link is cut before, and it is the recovery that is wrong.
    recovery: bool = False
    # It comes behind the next part that this is true of.
    behind: Optional[Wanted] = None

    @property
    def preempt(self) -> bool:
        """Is it about the connection for pages that were asked for?"""
        return self.channel is Channel.PREEMPT

    @property
    def others(self) -> bool:
        """Do other blocks than the guest's memory have to be there?"""
        return self.change is page_of_other


def is_a(what: str) -> Wanted:
    """Parts of a kind, in postcopy."""
    return lambda mark, memory: memory.postcopy and mark.what == what


def is_command(*values: int) -> Wanted:
    """Commands."""
    return lambda mark, memory: mark.what == 'command' and \
        mark.value in values


def is_boundary(mark: Mark, memory: Memory) -> bool:
    """A command or a section can begin here."""
    return memory.postcopy and (
        mark.what in ('section', 'eof') or
        (mark.what == 'command' and mark.value != COMMAND_PACKAGED))


def is_any(mark: Mark, memory: Memory) -> bool:
    """Everything."""
    return memory.postcopy and mark.what != ''


def can_move(part: Part) -> Optional[bytes]:
    """Where it is has no meaning to those that follow."""
    if part.mark.what == 'page' and not part.page.goes_on:
        return None
    return part.data


MAIN, PREEMPT, RETURN = Channel.MAIN, Channel.PREEMPT, Channel.RETURN

GROUPS: Dict[str, Dict[str, Mutation]] = {
    'pages': {
        f'page-{name}': Mutation(what, MAIN, is_a('page'), change, running)
        for name, (what, change) in PAGES.items()},
    'preempt': {
        f'preempt-{name}': Mutation(what, PREEMPT, is_a('page'), change,
                                    either(listening, asking))
        for name, (what, change) in PAGES.items()},
    'sections': {
        **{f'section-{name}': Mutation(text, MAIN, is_a(what), change, running)
           for name, (text, what, change) in SECTIONS.items()},
        'swapped': Mutation('two parts of the main channel are swapped', MAIN,
                            is_any, can_move, running, behind=is_any),
        'preempt-swapped': Mutation('two requested pages are swapped', PREEMPT,
                                    is_any, can_move,
                                    either(listening, asking),
                                    behind=is_any)},
    'foreign': {
        f'foreign-{name}': Mutation(f'{what}, which is foreign here', MAIN,
                                    is_boundary, change,
                                    either(early, running))
        for name, (what, change) in FOREIGN.items()},
    'package': {
        **{f'package-{name}': Mutation(what, MAIN,
                                       is_command(COMMAND_PACKAGED), change)
           for name, (what, change) in PACKAGE.items()},
        **{f'discard-{name}': Mutation(what, MAIN, is_command(COMMAND_DISCARD),
                                       change, few)
           for name, (what, change) in DISCARDS.items()},
        'discard-late': Mutation('a list of old pages comes behind the '
                                 'package', MAIN, is_command(COMMAND_DISCARD),
                                 can_move,
                                 behind=is_command(COMMAND_PACKAGED)),
        'commit': Mutation('a bit of the message that lets the guest run',
                           MAIN, lambda mark, memory: memory.loaded and
                           is_command(COMMAND_PING)(mark, memory),
                           flipped(0, 9)),
        'commit-lost': Mutation('it does not come', MAIN, lambda mark, memory:
                                memory.loaded and
                                is_command(COMMAND_PING)(mark, memory), lost)},
    'return': {
        **{f'request-{name}': Mutation(what, RETURN, is_a('request'), change,
                                       either(listening, asking))
           for name, (what, change) in REQUESTS.items()},
        **{f'return-{name}': Mutation(f'{what}, which is foreign here', RETURN,
                                      is_any, change,
                                      either(listening, asking))
           for name, (what, change) in FOREIGN_MESSAGES.items()},
        'return-swapped': Mutation('two messages are swapped', RETURN, is_any,
                                   can_move, either(listening, asking),
                                   behind=is_any),
        'loaded-lost': Mutation('the source is not told that devices are '
                                'loaded', RETURN, lambda mark, memory:
                                is_a('pong')(mark, memory) and
                                mark.value == PONG_LOADED, lost)},
    'recovery': {
        **{f'bitmap-{name}': Mutation(what, RETURN, is_a('bitmap'), change,
                                      few, recovery=True)
           for name, (what, change) in BITMAPS.items()},
        **{f'resumed-{name}': Mutation(what, RETURN, is_a('resumed'), change,
                                       recovery=True)
           for name, (what, change) in RESUMES.items()},
        **{f'recovery-{name}': Mutation(what, MAIN, is_a('command'), change,
                                        few, recovery=True)
           for name, (what, change) in RECOVERY_COMMANDS.items()}},
    'end': {
        'end-lost': Mutation('the last section has no start', MAIN,
                             lambda mark, memory: mark.what == 'section' and
                             mark.value == 3, lost),
        'eof-lost': Mutation('the stream has no end', MAIN, is_a('eof'), lost),
        'eof-bit': Mutation("a bit of the stream's end", MAIN, is_a('eof'),
                            flipped(0, 1)),
        'eof-garbage': Mutation('something comes behind the end', MAIN,
                                is_a('eof'), lambda part: part.data +
                                part.rng.randbytes(64)),
        'shut-bit': Mutation('a bit of what the source is told in the end',
                             RETURN, is_a('shut'), flipped(0, 8)),
        'shut-lost': Mutation('it does not come', RETURN, is_a('shut'), lost)},
}
MUTATIONS = {name: mutation for group in GROUPS.values()
             for name, mutation in group.items()}


def drawn(seed: int, count: int, preempt: bool) -> List[Tuple[str, str]]:
    """So many that nobody has chosen, and what is drawn for each."""
    names = [name for name, mutation in MUTATIONS.items()
             if preempt or not mutation.preempt]
    rng = random.Random(f'{seed}')
    return [(rng.choice(names), f'{seed}/{n}') for n in range(count)]


# --- Doing it ---

class Mutator:
    """Does it, once, to what goes over a relay."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, mutation: Mutation, seed: str, memory: Memory):
        """
        @param seed: the place and all else that is drawn is the same for it
        """
        self.mutation = mutation
        self.memory = memory
        self.rng = random.Random(seed)
        self.moment = mutation.when(self.rng)
        self.skip = self.moment.skip
        # What has come, and what goes on, and the place of the first byte.
        self.come: Dict[Channel, bytearray] = {ch: bytearray()
                                               for ch in Channel}
        self.start: Dict[Channel, int] = {channel: 0 for channel in Channel}
        self.ready: Dict[Channel, bytearray] = {channel: bytearray()
                                                for channel in Channel}
        self.held: Optional[bytes] = None
        self.package = b''
        self.present: Dict[str, List[int]] = {}
        # Where it was done.
        self.done_at: Optional[str] = None

    def feed(self, channel: Channel, data: bytes) -> None:
        """This has come, and is about to be looked at."""
        self.come[channel] += data

    def take(self, channel: Channel, all_: bool = False) -> bytes:
        """What goes on; of what is not whole only if there will be no more."""
        data = bytes(self.ready[channel])
        self.ready[channel].clear()
        if all_:
            data += self.come[channel]
            self.start[channel] += len(self.come[channel])
            self.come[channel].clear()
        return data

    def part(self, mark: Mark) -> None:
        """A part is whole."""
        come, start = self.come[mark.channel], self.start[mark.channel]
        assert mark.start == start
        data = bytes(come[:mark.end - start])
        del come[:mark.end - start]
        self.start[mark.channel] = mark.end
        if mark.what == 'command' and mark.value == COMMAND_PACKAGED:
            self.package = data
            self.see_present()
        self.ready[mark.channel] += self.changed(mark, data)

    def see_present(self) -> None:
        """What is there at the switch."""
        self.present = {
            name: [n * PAGE for n, there in enumerate(pages) if there]
            for name, pages in self.memory.present.items()}

    def changed(self, mark: Mark, data: bytes) -> bytes:
        """What comes instead, most often the same."""
        mutation = self.mutation
        if mark.channel is not mutation.channel:
            return data
        if self.held is not None and mutation.behind:
            return self.swapped(mutation.behind, mark, data)
        if self.done_at or not mutation.wanted(mark, self.memory) or \
                not self.moment.test(self.memory):
            return data
        if self.skip:
            self.skip -= 1
            return data
        part = Part(self.rng, mark, data, self.memory, self.present,
                    self.package)
        new = mutation.change(part)
        if new is None:
            return data
        self.done_at = (f"{self.moment.what}: '{mark.what}' at byte "
                        f'{mark.start} of the {mark.channel.value}, '
                        f'{self.memory.missing} pages missing: '
                        f'{difference(data, new)}')
        if mutation.behind:
            self.held = data
            return b''
        return new

    def swapped(self, behind: Wanted, mark: Mark, data: bytes) -> bytes:
        """What was held comes now, or later."""
        if not behind(mark, self.memory):
            return data
        held, self.held = self.held or b'', None
        if mark.what == 'page' and not Page.of(data).goes_on:
            # What was held would be taken for a page of its block.
            self.done_at = None
            return held + data
        return data + held


SHOWN = 16


def shown(data: bytes) -> str:
    """Some bytes, the first ones if there are many."""
    return data[:SHOWN].hex() + ('...' if len(data) > SHOWN else '')


def difference(old: bytes, new: bytes) -> str:
    """What was done to some bytes."""
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and \
            old[-1 - last] == new[-1 - last]:
        last += 1
    was, now = old[first:len(old) - last], new[first:len(new) - last]
    if not was and not now:
        return 'moved'
    return f"'{shown(was)}' at {first} of {len(old)} is '{shown(now)}'"
