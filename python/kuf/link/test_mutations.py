# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what host/mutate is made of.

One thing is changed and nothing else, and who gets the stream can notice it.
"""

import socket
import struct
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
)
import unittest

from kuf.link.mutations import (
    END_MARK,
    GROUPS,
    MUTATIONS,
    Moment,
    Mutation,
    Mutator,
    Page,
    any_time,
    command,
    difference,
    drawn,
    message,
    number,
    package_parts,
    request,
    string,
)
from kuf.link.relay import Relay
from kuf.link.stream import (
    COMMAND_DISCARD,
    COMMAND_PACKAGED,
    COMMAND_PING,
    PAGE,
    RAM_EOS,
    RAM_PAGE,
    RAM_ZERO,
    Channel,
    Mark,
    Memory,
    Stream,
)


PATIENCE = 20
SEEDS = 150
SIZES = {'pc.ram': 64, 'vga.vram': 64}
PRESENT = {'pc.ram': range(0, 16), 'vga.vram': range(0, 4)}
# As in migration/savevm.c.
RESUME, RECV_BITMAP = 9, 10


def contents(block: str, page: int) -> bytes:
    """No page has those of another one."""
    return struct.pack('>QQ', page + 1, len(block)) * (PAGE // 16)


def page(block: str, index: int, name: bool = False) -> bytes:
    """A page; some are zero."""
    zero = index % 8 == 5
    what = Page(index * PAGE, 0x20 | (RAM_ZERO if zero else RAM_PAGE), b'',
                b'\0' if zero else contents(block, index))
    return (what.named(block) if name else what).pack()


def section(kind: int, data: bytes) -> bytes:
    """RAM."""
    start = string(b'ram') + number(0, 4) + number(4, 4) if kind == 1 else b''
    return number(kind, 1) + number(3, 4) + start + data + \
        number(RAM_EOS, 8) + b'\x7e' + number(3, 4)


def device(number_: int, name: bytes) -> bytes:
    """A device's state."""
    return b'\x04' + number(number_, 4) + string(name) + bytes(8) + \
        name * 100 + b'\x7e' + number(number_, 4)


def pages(block: str, *indices: int) -> bytes:
    """The first of them says of which block they are."""
    return b''.join(page(block, index, not n)
                    for n, index in enumerate(indices))


LISTEN, RUN = command(4), command(5)
DEVICES = [device(7, b'timer'), device(8, b'cpu'), device(9, b'0000:00/vga')]
LOADED = command(COMMAND_PING, number(3, 4))
PACKAGE = LISTEN + b''.join(DEVICES) + LOADED + RUN
DISCARDED = command(COMMAND_DISCARD, b'\0' + string(b'pc.ram') + b'\0' +
                    struct.pack('>QQ', 16 * PAGE, 4 * PAGE))
PACKAGED = b'\x08' + number(COMMAND_PACKAGED, 2) + number(4, 2) + \
    number(len(PACKAGE), 4) + PACKAGE
BEFORE = b'QEVM' + number(3, 4) + b'\x07' + number(3, 4) + b'q35' + \
    section(1, number(sum(SIZES.values()) * PAGE | 4, 8) +
            b''.join(string(name.encode()) + number(size * PAGE, 8)
                     for name, size in SIZES.items())) + \
    section(2, pages('pc.ram', *range(20)) + pages('vga.vram', *range(4)))
SWITCH = DISCARDED * 3 + PACKAGED + command(COMMAND_PING, number(4, 4))
AFTER = section(2, pages('pc.ram', *range(16, 30))) + \
    section(2, b''.join(page('pc.ram', n) for n in range(30, 40))) + \
    section(2, pages('vga.vram', *range(4, 20))) + section(3, b'') + b'\0'
COMMIT = command(COMMAND_PING, number(0x4b554602, 4))
REQUESTED = b''.join(
    pages('pc.ram', n, n + 1, n + 2) + pages('vga.vram', n + 3, n + 4, n + 5)
    for n in range(40, 58, 6))
BITMAP = message(5, string(b'pc.ram')) + number(8, 8) + b'\xff' * 8 + \
    number(END_MARK, 8)
BACK = b''.join(message(2, number(n, 4)) for n in (3, 4)) + \
    request(40 * PAGE, PAGE, b'pc.ram') + \
    b''.join(request(n * PAGE) for n in range(41, 64)) + \
    message(1, number(0, 4))
RECOVERY = command(RECV_BITMAP, string(b'pc.ram')) + command(RESUME) + \
    section(2, pages('pc.ram', 20, 21)) + b'\0'
RECOVERY_BACK = BITMAP * 3 + message(6, number(1, 4))

NEVER = Mutation('', Channel.MAIN, lambda mark, memory: False,
                 lambda part: b'')


class Link(NamedTuple):
    """What came through, of what was sent."""
    mutator: Mutator
    sent: Dict[Channel, bytes]
    come: Dict[Channel, bytes]

    def changed(self) -> List[Channel]:
        """Where it is not the same."""
        return [channel for channel in Channel
                if self.come.get(channel) != self.sent.get(channel)]


def link(mutation: Mutation, seed: str = '', size: int = 1 << 20) -> Link:
    """All goes over it, in pieces."""
    memory = Memory()
    mutator = Mutator(mutation, seed, memory)
    streams = {}

    def ignore(_mark: Mark) -> None:
        pass
    sent: Dict[Channel, bytes] = {}
    come: Dict[Channel, bytes] = {}

    def send(channel: Channel, data: bytes) -> None:
        if channel not in streams:
            streams[channel] = Stream(channel, memory, ignore,
                                      not mutation.recovery, mutator.part)
        for start in range(0, len(data), size):
            part = data[start:start + size]
            mutator.feed(channel, part)
            streams[channel].feed(part)
            come[channel] = come.get(channel, b'') + \
                mutator.take(channel, streams[channel].over)
        sent[channel] = sent.get(channel, b'') + data

    if mutation.recovery:
        memory.postcopy = True
        for name, count in SIZES.items():
            memory.add_block(name, count * PAGE)
        send(Channel.MAIN, RECOVERY)
        send(Channel.RETURN, RECOVERY_BACK)
    else:
        send(Channel.MAIN, BEFORE + SWITCH)
        send(Channel.RETURN, BACK)
        send(Channel.PREEMPT, REQUESTED)
        send(Channel.MAIN, COMMIT + AFTER)
    for channel in sent:
        come[channel] += mutator.take(channel, True)
    return Link(mutator, sent, come)


def placed(data: bytes) -> List[Tuple[str, int, bytes]]:
    """
    The pages that the destination takes, up to where it sees that the stream is
    wrong.
    """
    found: List[Tuple[str, int, bytes]] = []
    have = {name: set(there) for name, there in PRESENT.items()}
    block: Optional[str] = None
    at = 0
    while at + 8 <= len(data):
        header = int.from_bytes(data[at:at + 8], 'big')
        flags, offset, at = header % PAGE, header & -PAGE, at + 8
        if flags & ~0x20 not in (RAM_ZERO, RAM_PAGE):
            break
        if not flags & 0x20:
            if at >= len(data):
                break
            end = at + 1 + data[at]
            block, at = data[at + 1:end].decode(errors='replace'), end
        length = 1 if flags & RAM_ZERO else PAGE
        body, at = data[at:at + length], at + length
        if block not in SIZES or offset >= SIZES[block] * PAGE or \
                len(body) < length or (flags & RAM_ZERO and body != b'\0'):
            break
        if offset // PAGE not in have[block]:
            have[block].add(offset // PAGE)
            found.append((block, offset // PAGE, body))
    return found


class MutatorTest(unittest.TestCase):
    """What is done to a stream."""

    def test_nothing(self) -> None:
        """All comes through, in pieces of any size."""
        for size in (1, 7, 4096, 1 << 20):
            for recovery in (False, True):
                with self.subTest(size=size, recovery=recovery):
                    result = link(NEVER._replace(recovery=recovery), '', size)
                    self.assertEqual(result.changed(), [])
                    self.assertIsNone(result.mutator.done_at)

    def test_each(self) -> None:
        """It is done, once, in its channel."""
        for name, mutation in MUTATIONS.items():
            with self.subTest(name):
                result = link(mutation._replace(when=any_time), name)
                self.assertIsNotNone(result.mutator.done_at)
                self.assertEqual(result.changed(), [mutation.channel])

    def test_pieces(self) -> None:
        """It is the same, whatever the pieces that the stream comes in."""
        for name, mutation in MUTATIONS.items():
            with self.subTest(name):
                mutation = mutation._replace(when=any_time)
                self.assertTrue(link(mutation, name).come ==
                                link(mutation, name, 333).come)

    def test_seed(self) -> None:
        """The same for the same seed, and others for others."""
        for name in ('page-flags', 'bitmap-bit', 'package-section'):
            mutation = MUTATIONS[name]._replace(when=any_time)
            come = {seed: link(mutation, str(seed)).come[mutation.channel]
                    for seed in range(SEEDS)}
            again = link(mutation, '1').come[mutation.channel]
            self.assertTrue(come[1] == again)
            self.assertGreater(len(set(come.values())), 5)

    def test_moment(self) -> None:
        """At the time that was drawn, and after so many."""
        mutation = MUTATIONS['page-lost']

        def first_missing(skip: int) -> bytes:
            moment = Moment('', lambda memory: memory.missing < 90, skip)
            return link(mutation._replace(
                when=lambda rng: moment)).come[Channel.MAIN]
        one, other = first_missing(1), first_missing(2)
        self.assertTrue(one != other)
        self.assertEqual(len(one), len(other))

    def test_unnoticed(self) -> None:
        """
        No page has wrong contents that nobody could notice, whatever is drawn.
        """
        for name, mutation in MUTATIONS.items():
            if not mutation.preempt:
                continue
            for seed in range(SEEDS):
                with self.subTest(name, seed=seed):
                    moment = Moment('', lambda memory: True, seed % 17)
                    result = link(mutation._replace(when=lambda rng: moment),
                                  str(seed))
                    for block, index, body in \
                            placed(result.come[Channel.PREEMPT]):
                        right = b'\0' if index % 8 == 5 else \
                            contents(block, index)
                        self.assertTrue(body == right, f'{block} {index}')

    def test_noticed(self) -> None:
        """The test above would see one: a page with another's offset."""
        wrong = Page.of(page('pc.ram', 41))._replace(offset=60 * PAGE)
        found = placed(pages('pc.ram', 40) + wrong.pack())
        self.assertEqual([index for _, index, _ in found], [40, 60])
        self.assertNotEqual(found[1][2], contents('pc.ram', 60))

    def test_swapped(self) -> None:
        """Two pages, and never so that one is taken for another block's."""
        result = link(MUTATIONS['preempt-swapped']._replace(when=any_time))
        first, second = page('pc.ram', 41), page('pc.ram', 42)
        self.assertIn(first + second, REQUESTED)
        self.assertTrue(result.come[Channel.PREEMPT] == REQUESTED.replace(
            first + second, second + first))
        result = link(MUTATIONS['discard-late'])
        self.assertIn(DISCARDED * 2 + PACKAGED + DISCARDED,
                      result.come[Channel.MAIN])

    def test_package(self) -> None:
        """Its parts are found, and its length is that of what is in it."""
        commands, sections = package_parts(PACKAGED)
        self.assertEqual([PACKAGED[part] for part in commands],
                         [LISTEN, LOADED, RUN])
        self.assertEqual([PACKAGED[part] for part in sections], DEVICES)
        come = link(MUTATIONS['package-run-lost']).come[Channel.MAIN]
        rest = PACKAGE[:-len(RUN)]
        self.assertIn(PACKAGED[:5] + number(len(rest), 4) + rest +
                      command(COMMAND_PING, number(4, 4)), come)

    def test_difference(self) -> None:
        """What is told of it."""
        self.assertEqual(difference(b'abcd', b'abxd'),
                         "'63' at 2 of 4 is '78'")
        self.assertEqual(difference(b'abcd', b'ad'), "'6263' at 1 of 4 is ''")
        self.assertEqual(difference(b'ab', b'ab'), 'moved')


class RelayTest(unittest.TestCase):
    """A mutator on a link between two sockets."""

    def test_relay(self) -> None:
        """What comes is what the mutator makes of it."""
        server = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(server.close)
        mutation = MUTATIONS['section-footer']._replace(when=any_time)
        memory = Memory()
        relay = Relay(server.getsockname()[1], memory=memory,
                      mutator=Mutator(mutation, '1', memory))
        self.addCleanup(relay.close)
        source = socket.create_connection(('127.0.0.1', relay.port))
        destination = server.accept()[0]
        for sock in (source, destination):
            sock.settimeout(PATIENCE)
            self.addCleanup(sock.close)
        data = BEFORE + SWITCH + AFTER
        source.sendall(data)
        source.shutdown(socket.SHUT_WR)
        come = b''
        while part := destination.recv(65536):
            come += part
        self.assertEqual(len(come), len(data))
        self.assertEqual(sum(a != b for a, b in zip(come, data)), 1)
        self.assertTrue(relay.stopped.is_set())
        self.assertIsNone(relay.wrong)


class TableTest(unittest.TestCase):
    """Which mutations there are."""

    def test_names(self) -> None:
        """No name means two things."""
        self.assertEqual(len(MUTATIONS), sum(map(len, GROUPS.values())))
        self.assertFalse(set(MUTATIONS) & set(GROUPS))

    def test_drawn(self) -> None:
        """The same for the same seed, and more of them go on with it."""
        self.assertEqual(drawn(1, 20, True), drawn(1, 30, True)[:20])
        self.assertNotEqual(drawn(1, 20, True), drawn(2, 20, True))
        self.assertFalse([name for name, _ in drawn(1, 200, False)
                          if MUTATIONS[name].preempt])


if __name__ == '__main__':
    unittest.main()
