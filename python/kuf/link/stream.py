# SPDX-License-Identifier: GPL-2.0-or-later
"""
A migration stream, as far as one has to read it to know where one is.

The format is that of migration/savevm.c, migration/ram.c and, for the return
path, migration/migration.c, for a guest with nothing but RAM to send before
the switch to postcopy, with pages of 4 KiB.
"""

from enum import Enum
import struct
import threading
from typing import (
    Callable,
    Collection,
    Dict,
    Generator,
    NamedTuple,
    Tuple,
)


PAGE = 4096

SECTION_EOF = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_CONFIGURATION = 0x07
SECTION_COMMAND = 0x08
SECTION_FOOTER = 0x7e

COMMAND_PING = 2
COMMAND_DISCARD = 6
COMMAND_PACKAGED = 7

# The destination's answer to what is at the package's end.
PONG_LOADED = 3

RAM_ZERO = 0x002
RAM_MEM_SIZE = 0x004
RAM_PAGE = 0x008
RAM_EOS = 0x010
RAM_CONTINUE = 0x020
HEADER = struct.Struct('>Q')

MESSAGES = {1: 'shut', 2: 'pong', 3: 'request', 4: 'request', 5: 'bitmap',
            6: 'resumed', 7: 'switchover-ack'}


class Channel(Enum):
    """One direction of a connection."""
    MAIN = 'main'
    PREEMPT = 'preempt'
    RETURN = 'return path'


class Mark(NamedTuple):
    """Something that was found in a stream."""
    channel: Channel
    what: str
    # Its first byte, and the first one behind it, counted from the start.
    start: int
    end: int
    block: str = ''
    # The page's offset, or the number of a pong.
    value: int = 0


class StreamError(Exception):
    """The stream is not what it should be."""


class Memory:
    """
    Which pages the destination has, by what is on its way there.

    All channels look at it; callers hold its lock.
    """

    # pylint: disable=too-many-instance-attributes
    def __init__(self, huge: Collection[str] = ()) -> None:
        """
        @param huge: blocks of huge pages
        """
        self.huge = huge
        self.lock = threading.RLock()
        self.present: Dict[str, bytearray] = {}
        # Pages that the destination does not have.
        self.missing = 0
        # As many as that when the package was sent.
        self.missed = 0
        self.postcopy = False
        # Pages that were asked for, and since devices were loaded.
        self.requests = 0
        self.faults = 0
        # Devices are loaded, as the destination says.
        self.loaded = False
        # Pages that came in postcopy for memory that belongs to devices.
        self.eager = 0

    def add_block(self, name: str, size: int) -> None:
        """A block with nothing in it."""
        self.present[name] = bytearray(size // PAGE)
        self.missing += size // PAGE

    def add_page(self, name: str, offset: int) -> None:
        """A page is sent."""
        block = self.present[name]
        self.missing -= not block[offset // PAGE]
        block[offset // PAGE] = 1
        self.eager += self.postcopy and name != 'pc.ram'

    def discard(self, name: str, start: int, length: int) -> None:
        """Pages are old."""
        block = self.present[name]
        first, last = start // PAGE, (start + length) // PAGE
        self.missing += sum(block[first:last])
        block[first:last] = bytes(last - first)


Parse = Generator[None, None, None]
Take = Generator[None, None, bytes]


class Stream:
    """One channel.  What is found is told to WATCH before it is passed on."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, channel: Channel, memory: Memory,
                 watch: Callable[[Mark], None], whole: bool = True,
                 parts: Callable[[Mark], None] = lambda mark: None):
        """
        @param whole: it is a migration from its start, and not a recovery
        @param parts: is told of each smallest part that means something by
            itself when all of it is known; there is nothing between them
        """
        # pylint: disable=too-many-arguments
        self.channel = channel
        self.memory = memory
        self.watch = watch
        self.whole = whole
        self.parts = parts
        self.data = bytearray()
        # Of the first byte that was not looked at yet: in data, and counted
        # from the start of the stream.
        self.at = 0
        self.position = 0
        self.block = ''
        self.parser = {Channel.MAIN: self.main, Channel.PREEMPT: self.pages,
                       Channel.RETURN: self.messages}[channel]()
        self.over = False

    def feed(self, data: bytes) -> None:
        """Look at some more."""
        if self.over:
            return
        del self.data[:self.at]
        self.at = 0
        self.data += data
        try:
            with self.memory.lock:
                next(self.parser)
        except StopIteration:
            self.over = True

    def take(self, size: int) -> Take:
        """Some bytes."""
        while len(self.data) - self.at < size:
            yield
        start = self.at
        self.at += size
        self.position += size
        return bytes(self.data[start:self.at])

    def skip(self, size: int) -> Parse:
        """Some bytes that do not matter."""
        while size:
            part = min(size, len(self.data) - self.at)
            self.at += part
            self.position += part
            size -= part
            if size:
                yield

    def number(self, size: int) -> Generator[None, None, int]:
        """A number of that many bytes."""
        return int.from_bytes((yield from self.take(size)), 'big')

    def string(self) -> Generator[None, None, str]:
        """A string."""
        return (yield from self.take((yield from self.number(1)))).decode()

    # pylint: disable-next=too-many-arguments
    def found(self, what: str, start: int, size: int = 0, block: str = '',
              value: int = 0) -> None:
        """Tell it; it has SIZE bytes, or ends here."""
        end = start + size if size else self.position
        self.watch(Mark(self.channel, what, start, end, block, value))

    def part(self, what: str, start: int, block: str = '',
             value: int = 0) -> None:
        """A part ends here."""
        self.parts(Mark(self.channel, what, start, self.position, block,
                        value))

    # --- From the source ---

    def main(self) -> Parse:
        """The main channel."""
        if self.whole:
            yield from self.skip(8)
            self.part('start', 0)
        while True:
            start = self.position
            kind = yield from self.number(1)
            if kind == SECTION_CONFIGURATION:
                yield from self.skip((yield from self.number(4)))
                self.part('configuration', start)
            elif kind == SECTION_COMMAND:
                command = yield from self.command(start)
                self.part('command', start, '', command)
            elif kind in (SECTION_START, SECTION_PART, SECTION_END):
                yield from self.section(kind, start)
            elif kind == SECTION_EOF:
                self.found('eof', start)
                self.part('eof', start)
                return
            else:
                raise StreamError(f'a section of kind {kind} at {start}')

    def command(self, start: int) -> Generator[None, None, int]:
        """A command of the main channel."""
        command = yield from self.number(2)
        size = yield from self.number(2)
        if command == COMMAND_PACKAGED:
            size = yield from self.number(4)
            self.memory.postcopy = True
            self.memory.missed = self.memory.missing
            self.found('package', start, 9 + size)
        if command == COMMAND_PING:
            value = int.from_bytes((yield from self.take(size)), 'big')
            self.found('ping', start, 0, '', value)
            return command
        if command != COMMAND_DISCARD:
            yield from self.skip(size)
            return command
        self.found('discard', start, 5 + size)
        data = yield from self.take(size)
        name = data[2:2 + data[1]].decode()
        for first, length in struct.iter_unpack('>QQ', data[3 + data[1]:]):
            self.memory.discard(name, first, length)
        return command

    def section(self, kind: int, start: int) -> Parse:
        """RAM, which is all that is sent in sections."""
        yield from self.skip(4)
        if kind == SECTION_START:
            yield from self.string()
            yield from self.skip(8)
        if kind == SECTION_END:
            self.found('end', start)
        self.part('section', start, '', kind)
        yield from self.pages()
        start = self.position
        footer = yield from self.number(1)
        if footer != SECTION_FOOTER:
            raise StreamError(f'no footer at {start}')
        yield from self.skip(4)
        self.part('footer', start)

    def pages(self) -> Parse:
        """Pages, up to the end of a section; all of the preempt channel."""
        while True:
            if self.channel is Channel.MAIN and not self.memory.postcopy:
                yield from self.precopy_pages()
            start = self.position
            header = yield from self.number(8)
            if header & RAM_EOS:
                self.part('eos', start)
                return
            if header & RAM_MEM_SIZE:
                yield from self.blocks(header & -PAGE)
                self.part('blocks', start)
                continue
            if not header & (RAM_ZERO | RAM_PAGE):
                raise StreamError(f'a page with flags {header % PAGE:#x}')
            if not header & RAM_CONTINUE:
                self.block = yield from self.string()
            size = 1 if header & RAM_ZERO else PAGE
            offset = header & -PAGE
            self.memory.add_page(self.block, offset)
            self.found('page', start, self.position + size - start,
                       self.block, offset)
            yield from self.skip(size)
            self.part('page', start, self.block, offset)

    def precopy_pages(self) -> Parse:
        """
        Pages up to something else.  There are many of them, and nobody wants
        to know of each: they have no marks, and one part in a chunk.
        """
        while True:
            start = self.position
            more = self.whole_pages()
            if self.position > start:
                self.part('pages', start)
            if not more:
                return
            yield

    def whole_pages(self) -> bool:
        """
        All pages of which all has come.  False if something else comes then,
        or what is no page.
        """
        data, at, end = self.data, self.at, len(self.data)
        block = self.memory.present.get(self.block, bytearray())
        missing = self.memory.missing
        more = True
        while end - at >= 8:
            header, = HEADER.unpack_from(data, at)
            if header & (RAM_EOS | RAM_MEM_SIZE) or \
                    not header & (RAM_ZERO | RAM_PAGE):
                more = False
                break
            size = 8 + (1 if header & RAM_ZERO else PAGE)
            name = b''
            if not header & RAM_CONTINUE:
                if at + 8 == end:
                    break
                name = data[at + 9:at + 9 + data[at + 8]]
                size += 1 + data[at + 8]
            if at + size > end:
                break
            if name:
                self.block = name.decode()
                block = self.memory.present[self.block]
            at += size
            missing -= not block[header // PAGE]
            block[header // PAGE] = 1
        self.position += at - self.at
        self.at = at
        self.memory.missing = missing
        return more

    def blocks(self, total: int) -> Parse:
        """The list of blocks."""
        while total:
            name = yield from self.string()
            size = yield from self.number(8)
            if name in self.memory.huge:
                # How large its pages are.
                yield from self.skip(8)
            self.memory.add_block(name, size)
            total -= size

    # --- From the destination ---

    def messages(self) -> Parse:
        """The return path."""
        while True:
            start = self.position
            kind = yield from self.number(2)
            size = yield from self.number(2)
            data = yield from self.take(size)
            what = MESSAGES.get(kind, f'message {kind}')
            value = 0
            if what == 'request':
                value, block = self.request(kind, data)
                self.found(what, start, 0, block, value)
                self.part(what, start, block, value)
                continue
            if what == 'pong':
                value = int.from_bytes(data, 'big')
            elif what == 'bitmap':
                size = yield from self.number(8)
                self.found(what, start, self.position + size + 8 - start)
                yield from self.skip(size + 8)
                self.part(what, start)
                continue
            self.found(what, start, 0, '', value)
            self.part(what, start, '', value)
            if (what, value) == ('pong', PONG_LOADED):
                self.memory.loaded = True

    def request(self, kind: int, data: bytes) -> Tuple[int, str]:
        """A page is asked for, of the same block as the one before or not."""
        if kind == 3:
            self.block = data[13:].decode()
        self.memory.requests += 1
        self.memory.faults += self.memory.loaded
        return int.from_bytes(data[:8], 'big'), self.block
