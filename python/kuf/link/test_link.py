# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what host/link-cuts and host/never-deaf are made of.

A link is cut where it should be, to the byte, and what is wrong is noticed.
"""

import json
from pathlib import Path
import socket
import struct
import tempfile
import threading
import time
from typing import (
    Any,
    Dict,
    List,
    Sequence,
    Tuple,
)
import unittest
import unittest.mock

from kuf.devices.waits import Waits
from kuf.guest.machine import GuestError
from kuf.guest.monitor import Deaf, Monitor
from kuf.guest.stamps import (
    FIRST,
    MASK,
    PAGE,
    STEP,
    WORDS,
    check_disk,
)
from kuf.link.cuts import (
    END,
    GROUPS,
    POINTS,
    at,
    drawn,
    missing,
)
from kuf.link.relay import Relay
from kuf.link.stream import (
    Channel,
    Mark,
    Memory,
    Stream,
)


PATIENCE = 20


def number(value: int, size: int) -> bytes:
    """As it is in a stream."""
    return value.to_bytes(size, 'big')


def string(text: str) -> bytes:
    """A length and so many characters."""
    return number(len(text), 1) + text.encode()


def command(what: int, data: bytes) -> bytes:
    """A command of the main channel."""
    return b'\x08' + number(what, 2) + number(len(data), 2) + data


def page(offset: int, zero: bool = False, block: str = '') -> bytes:
    """A page, of the block of the one before if there is no other."""
    header = offset | (2 if zero else 8) | (0 if block else 0x20)
    data = b'\0' if zero else bytes(PAGE)
    return number(header, 8) + (string(block) if block else b'') + data


EOS = number(0x10, 8)


def section(kind: int, data: bytes) -> bytes:
    """RAM."""
    start = string('ram') + number(0, 4) + number(4, 4) if kind == 1 else b''
    return number(kind, 1) + number(3, 4) + start + data + EOS + \
        b'\x7e' + number(3, 4)


def message(kind: int, data: bytes) -> bytes:
    """One of the return path."""
    return number(kind, 2) + number(len(data), 2) + data


PACKAGE = bytes(100)
HEAD = b'QEVM' + number(3, 4) + b'\x07' + number(3, 4) + b'q35'
SETUP = section(1, number(16 * PAGE | 4, 8) +
                string('pc.ram') + number(12 * PAGE, 8) +
                string('vga.vram') + number(4 * PAGE, 8))
PRECOPY = section(2, page(0, block='pc.ram') + page(PAGE) +
                  page(2 * PAGE, zero=True))
DISCARD = command(6, b'\0' + string('pc.ram') + b'\0' +
                  struct.pack('>QQ', PAGE, 3 * PAGE))
PING = command(2, number(4, 4))
PACKAGED = b'\x08' + number(7, 2) + number(4, 2) + number(len(PACKAGE), 4) + \
    PACKAGE
POSTCOPY = section(2, page(0, block='vga.vram') + page(PAGE, block='pc.ram'))
FINISH = section(3, b'') + b'\0'
STREAM = HEAD + SETUP + PRECOPY + DISCARD + PACKAGED + PING + POSTCOPY + \
    FINISH


class StreamTest(unittest.TestCase):
    """A stream is understood, however it is cut into pieces."""

    def read(self, data: bytes, size: int, channel: Channel = Channel.MAIN,
             huge: Sequence[str] = ()) -> Tuple[List[Mark], Memory]:
        """Read it in pieces."""
        marks: List[Mark] = []
        memory = Memory(huge)
        memory.add_block('other', 0)
        stream = Stream(channel, memory, marks.append)
        for start in range(0, len(data), size):
            stream.feed(data[start:start + size])
        return marks, memory

    def test_huge(self) -> None:
        """Of a block of huge pages it is said how large they are."""
        size = number(12 * PAGE, 8)
        marks, memory = self.read(
            STREAM.replace(size, size + number(2 << 20, 8), 1), 5,
            huge=['pc.ram'])
        self.assertEqual([(mark.what, mark.block) for mark in marks[-4:]],
                         [('page', 'vga.vram'), ('page', 'pc.ram'),
                          ('end', ''), ('eof', '')])
        self.assertEqual(sorted(memory.present),
                         ['other', 'pc.ram', 'vga.vram'])

    def test_main(self) -> None:
        """What is sent, and what is missing."""
        for size in (1, 7, 4096, len(STREAM)):
            with self.subTest(size=size):
                marks, memory = self.read(STREAM, size)
                self.assertEqual(
                    [mark.what for mark in marks],
                    ['discard', 'package', 'ping', 'page', 'page', 'end',
                     'eof'])
                found = {mark.what: mark for mark in marks}
                package = found['package']
                self.assertEqual(STREAM[package.start:package.end], PACKAGED)
                discard = found['discard']
                self.assertEqual(STREAM[discard.start:discard.end], DISCARD)
                last = found['page']
                self.assertEqual(STREAM[last.start:last.end],
                                 page(PAGE, block='pc.ram'))
                self.assertEqual(found['eof'].end, len(STREAM))
                # One is there and was never discarded.
                self.assertEqual(memory.missed, 15)
                self.assertEqual(memory.missing, 13)
                self.assertEqual(memory.eager, 1)

    def test_return_path(self) -> None:
        """Requests, and what the destination has."""
        data = message(2, number(3, 4)) + \
            message(3, number(PAGE, 8) + number(PAGE, 4) +
                    string('pc.ram')) + \
            message(4, number(0, 8) + number(PAGE, 4)) + \
            message(5, string('pc.ram')) + number(16, 8) + bytes(24) + \
            message(1, number(0, 4))
        for size in (1, 5, len(data)):
            marks, memory = self.read(data, size, Channel.RETURN)
            self.assertEqual([(mark.what, mark.block, mark.value)
                              for mark in marks],
                             [('pong', '', 3), ('request', 'pc.ram', PAGE),
                              ('request', 'pc.ram', 0), ('bitmap', '', 0),
                              ('shut', '', 0)])
            self.assertEqual((memory.requests, memory.faults), (2, 2))
            self.assertEqual(marks[-1].end, len(data))


class RelayTest(unittest.TestCase):
    """A link between two sockets."""

    def setUp(self) -> None:
        self.server = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(self.server.close)

    def connect(self, relay: Relay) -> Tuple[socket.socket, socket.socket]:
        """One more connection, as the two sides have it."""
        source = socket.create_connection(('127.0.0.1', relay.port))
        destination = self.server.accept()[0]
        for sock in (source, destination):
            sock.settimeout(PATIENCE)
            self.addCleanup(sock.close)
        return source, destination

    def relay(self, **options: Any) -> Relay:
        """A link that ends with the test."""
        relay = Relay(self.server.getsockname()[1], **options)
        self.addCleanup(relay.close)
        return relay

    @staticmethod
    def receive(sock: socket.socket) -> bytes:
        """All that comes through."""
        data = b''
        try:
            while part := sock.recv(65536):
                data += part
        except ConnectionResetError:
            pass
        return data

    def cut(self, place: 'int | float | None', what: str = 'package',
            **options: Any) -> bytes:
        """What comes through until the cut."""
        relay = self.relay(watch=at(what, place), **options)
        source, destination = self.connect(relay)
        source.sendall(STREAM)
        data = self.receive(destination)
        self.assertTrue(relay.stopped.wait(PATIENCE))
        self.assertEqual(self.receive(source), b'')
        return data

    def test_cut(self) -> None:
        """To the byte."""
        start = STREAM.index(PACKAGED)
        size = len(PACKAGED)
        for place, length in ((0, 0), (5, 5), (-1, size - 1), (0.5, size // 2),
                              (END, size)):
            with self.subTest(place=place):
                self.assertEqual(self.cut(place), STREAM[:start + length])
        self.assertEqual(self.cut(0, 'eof'), STREAM[:-1])

    def test_reset(self) -> None:
        """Both sides are told so, and at once, also if nothing is sent."""
        for reset in (False, True):
            with self.subTest(reset=reset):
                relay = self.relay(reset=reset, watch=lambda *_: None)
                sides = self.connect(relay)
                sides[0].sendall(HEAD)
                self.assertEqual(sides[1].recv(100), HEAD)
                began = time.monotonic()
                relay.cut()
                for sock in sides:
                    if reset:
                        with self.assertRaises(ConnectionResetError):
                            sock.recv(100)
                    else:
                        self.assertEqual(sock.recv(100), b'')
                self.assertLess(time.monotonic() - began, 1)

    def test_full(self) -> None:
        """Nobody reads what comes through; it can be cut nevertheless."""
        relay = self.relay(whole=False, reset=True)
        source, destination = self.connect(relay)
        source.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            while True:
                source.sendall(bytes(1 << 20))
        began = time.monotonic()
        relay.cut()
        self.assertLess(time.monotonic() - began, 1)
        with self.assertRaises(ConnectionResetError):
            while destination.recv(65536):
                pass

    def test_cut_return_path(self) -> None:
        """In the other direction."""
        relay = self.relay(watch=at('shut', 3))
        source, destination = self.connect(relay)
        pong = message(2, number(1, 4))
        destination.sendall(pong + message(1, number(0, 4)))
        self.assertEqual(self.receive(source),
                         pong + message(1, number(0, 4))[:3])

    def test_listening(self) -> None:
        """Nothing comes through after the package, until it is released."""
        relay = self.relay(listening=True, watch=lambda *_: None)
        source, destination = self.connect(relay)
        source.sendall(STREAM)
        destination.settimeout(1)
        end = STREAM.index(PACKAGED) + len(PACKAGED)
        data = b''
        with self.assertRaises(TimeoutError):
            while part := destination.recv(65536):
                data += part
        self.assertEqual(data, STREAM[:end])
        # The return path is not held.
        destination.sendall(message(2, number(1, 4)))
        self.assertEqual(source.recv(100), message(2, number(1, 4)))
        relay.release()
        destination.settimeout(PATIENCE)
        source.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive(destination), STREAM[end:])

    def test_silent(self) -> None:
        """Nobody is told."""
        relay = self.relay(silent=True, watch=at('package', 0))
        source, destination = self.connect(relay)
        source.sendall(STREAM)
        self.assertTrue(relay.stopped.wait(PATIENCE))
        destination.sendall(b'anything')
        for sock in (source, destination):
            sock.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                while sock.recv(65536):
                    pass

    def ends(self, relay: Relay, *sides: socket.socket) -> List[float]:
        """Cut the link; when do these come to their ends?"""
        ends = [0.0] * len(sides)

        def wait(index: int) -> None:
            self.receive(sides[index])
            ends[index] = time.monotonic()
        threads = [threading.Thread(target=wait, args=[index])
                   for index in range(len(sides))]
        for thread in threads:
            thread.start()
        relay.cut()
        for thread in threads:
            thread.join(PATIENCE)
        return ends

    def test_order(self) -> None:
        """One connection ends before the other."""
        for first in (Channel.MAIN, Channel.PREEMPT):
            with self.subTest(first=first):
                relay = self.relay(first=first, watch=lambda *_: None)
                connections = [self.connect(relay), self.connect(relay)]
                main, preempt = self.ends(
                    relay, *(there for _, there in connections))
                later = preempt - main
                if first is Channel.PREEMPT:
                    later = -later
                self.assertGreater(later, 0.5)

    def test_hold(self) -> None:
        """What was held comes later."""
        relay = self.relay(whole=False)
        source, destination = self.connect(relay)
        relay.hold()
        source.sendall(b'held')
        destination.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            destination.recv(100)
        relay.release()
        destination.settimeout(PATIENCE)
        self.assertEqual(destination.recv(100), b'held')


class PointTest(unittest.TestCase):
    """Where the link is cut."""

    def test_enough(self) -> None:
        """At as many as were asked for."""
        self.assertGreaterEqual(len(POINTS), 20)
        self.assertEqual(len(POINTS), sum(map(len, GROUPS.values())))
        self.assertFalse(set(POINTS) & set(GROUPS))

    def test_drawn(self) -> None:
        """The same for the same seed."""
        names = [drawn(1, n).what for n in range(20)]
        self.assertEqual(names, [drawn(1, n).what for n in range(20)])
        self.assertNotEqual(names, [drawn(2, n).what for n in range(20)])
        self.assertGreater(len(set(names)), 15)

    def test_missing(self) -> None:
        """In a page, when so many are left, and the guest runs."""
        relay = unittest.mock.Mock()
        relay.memory = Memory()
        mark = Mark(Channel.MAIN, 'page', 100, 200)
        relay.memory.missed = 1000
        relay.memory.missing = 400
        self.assertIsNone(missing(0.5)(relay, mark))
        relay.memory.faults = 10
        self.assertEqual(missing(0.5)(relay, mark), 150)
        relay.memory.missing = 501
        self.assertIsNone(missing(0.5)(relay, mark))


class StampsTest(unittest.TestCase):
    """What is on a disk."""

    def check(self, pages: List[bytes]) -> int:
        """A disk with these pages."""
        with tempfile.NamedTemporaryFile() as disk:
            disk.write(b''.join(pages))
            disk.flush()
            return check_disk(Path(disk.name))

    @staticmethod
    def stamp(number_: int, pass_: int) -> bytes:
        """As in init.c."""
        word = ((number_ << 32 | pass_) * FIRST + 1) & MASK
        return b''.join(struct.pack('<Q', word + n * STEP & MASK)
                        for n in range(WORDS))

    def test_good(self) -> None:
        """Of any pass, or never written."""
        pages = [self.stamp(0, 7), bytes(PAGE), self.stamp(2, 1 << 20)]
        self.assertEqual(self.check(pages), 2)

    def test_wrong(self) -> None:
        """Memory that was not there, or was another page."""
        good = self.stamp(1, 7)
        for wrong in (self.stamp(2, 7), b'\xff' * PAGE, good[:8] + good[:-8],
                      good[:PAGE // 2] + bytes(PAGE // 2),
                      bytes(PAGE // 2) + good[PAGE // 2:]):
            with self.assertRaises(GuestError):
                self.check([self.stamp(0, 7), wrong])


class WaitsTest(unittest.TestCase):
    """Who waits."""

    def test_waits(self) -> None:
        """A vCPU in its guest does not count, one that emulates does."""
        with tempfile.NamedTemporaryFile() as log:
            waits = Waits(Path(log.name), [7])

            def look(*lines: str) -> int:
                log.write(''.join(f'{line}\n' for line in lines).encode())
                log.flush()
                return len(waits.look())
            fault = 'kvm_memory_fault start 0x1000 size 0x1000 flags 0x10'
            ask = 'ram_wait_request pc.ram offset 0x{} tid {}'
            come = 'ram_wait_resume pc.ram offset 0x{} tid {}'
            self.assertEqual(look(fault, ask.format(1000, 7)), 0)
            self.assertEqual(look(come.format(1000, 7)), 0)
            self.assertEqual(look(ask.format(2000, 7)), 1)
            self.assertEqual(look(ask.format(3000, 5)), 2)
            self.assertEqual(look(ask.format(4000, 0)), 3)
            self.assertEqual(look(come.format(2000, 7)), 2)
            self.assertEqual(look('anything'), 2)


class MonitorTest(unittest.TestCase):
    """What takes too long is noticed."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, 'monitor')
        self.requests: List[Dict[str, Any]] = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen()
        self.addCleanup(self.server.close)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """A QEMU: the command's name is how long it takes, in seconds."""
        client = self.server.accept()[0]
        self.addCleanup(client.close)
        client.sendall(b'{"QMP": {"capabilities": ["oob"]}}\r\n')
        decoder = json.JSONDecoder()
        text = ''
        while data := client.recv(4096):
            if b'"quit"' in data:
                client.close()
                return
            text += data.decode()
            while text:
                request, end = decoder.raw_decode(text)
                text = text[end:]
                self.requests.append(request)
                name = request.get('execute', '0')
                time.sleep(float(name) if name[0].isdigit() else 0)
                answer = {'return': name, 'id': request['id']}
                if name == '0.0':
                    answer = {'error': {'desc': 'no'}, 'id': request['id']}
                client.sendall(b'{"event": "STOP"}\r\n' +
                               json.dumps(answer).encode() + b'\r\n')

    def test_ended(self) -> None:
        """Whoever asks then, again and again, is told."""
        monitor = Monitor(self.path, 'test')
        self.addCleanup(monitor.close)
        for _ in range(3):
            with self.assertRaisesRegex(GuestError, 'monitor is closed'):
                monitor.ask('quit')

    def test_in_time(self) -> None:
        """It says how long it took."""
        monitor = Monitor(self.path, 'test')
        self.addCleanup(monitor.close)
        self.assertEqual(self.requests[0]['arguments'], {'enable': []})
        answer = monitor.ask('0.2', 1, some_name=1)
        self.assertEqual(answer.value, '0.2')
        self.assertTrue(0.2 <= answer.seconds < 1)
        self.assertEqual(self.requests[1]['arguments'], {'some-name': 1})
        with self.assertRaisesRegex(GuestError, "refused '0.0': no"):
            monitor.ask('0.0')

    def test_late(self) -> None:
        """Late or never; and the answer is not that to another command."""
        monitor = Monitor(self.path, 'test')
        self.addCleanup(monitor.close)
        with self.assertRaisesRegex(Deaf, "to '0.7' after 0.7 s, and 0.5 s"):
            monitor.ask('0.7', 0.5)
        with self.assertRaisesRegex(Deaf, "to '6' not in 5.0 s, and 1 s"):
            monitor.ask('6')
        self.assertEqual(monitor.ask('0.1', 3).value, '0.1')

    def test_oob(self) -> None:
        """Only if it was asked for, and for what can be."""
        monitor = Monitor(self.path, 'test', oob=True)
        self.addCleanup(monitor.close)
        monitor.ask('migrate-pause', 3)
        monitor.ask('query-status', 3)
        self.assertEqual(self.requests[0]['arguments'], {'enable': ['oob']})
        self.assertIn('exec-oob', self.requests[1])
        self.assertIn('execute', self.requests[2])


if __name__ == '__main__':
    unittest.main()
