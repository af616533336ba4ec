# SPDX-License-Identifier: GPL-2.0-or-later
"""
The link between the two sides of a migration, with all that links do.

It can be held, so that nothing comes through and nobody is told, it can be
slow, and it can be cut, anywhere.
"""

import socket
import struct
import threading
import time
from typing import (
    Callable,
    Collection,
    Dict,
    List,
    Optional,
)

from kuf.link.mutations import Mutator
from kuf.link.stream import (
    Channel,
    Mark,
    Memory,
    Stream,
    StreamError,
)


CHUNK = 64 * 1024
# A socket in a system call is not closed before that returns, so these are
# short; in seconds.
GLANCE = 0.05
# How much later the other connection is cut, in seconds.
LATER = 1.0

# Where to cut at this mark: the first byte that does not come through, counted
# from the start of the channel; None for not here.
Watch = Callable[['Relay', Mark], Optional[int]]


def close_socket(sock: socket.socket, reset: bool) -> None:
    """Close it, politely or not."""
    try:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack('ii', 1, 0))
        else:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was first
    sock.close()


class Pipe:
    """One direction of a connection, with a thread that passes bytes on."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, relay: 'Relay', channel: Channel,
                 source: socket.socket, target: socket.socket,
                 stream: Optional[Stream]):
        # pylint: disable=too-many-arguments
        self.relay = relay
        self.channel = channel
        self.source = source
        self.target = target
        self.stream = stream
        self.passed = 0
        # The first byte that does not come through, once that is known.
        self.end: Optional[int] = None
        # The first byte that has to wait until the relay is released.
        self.pause: Optional[int] = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Until the connection is cut or closed."""
        try:
            while data := self.receive():
                if not self.pass_on(self.looked_at(data)):
                    return
            if self.stream and self.relay.mutator:
                self.pass_on(self.relay.mutator.take(self.channel, True))
            self.relay.closed(self.channel)
        except OSError:
            self.relay.closed(self.channel)
        except StreamError as exc:
            self.relay.wrong = f'{self.channel.value}: {exc}'
            self.relay.cut()

    def looked_at(self, data: bytes) -> bytes:
        """What is passed on of it, or instead."""
        if not self.stream:
            return data
        mutator = self.relay.mutator
        if not mutator:
            self.stream.feed(data)
            return data
        mutator.feed(self.channel, data)
        self.stream.feed(data)
        if mutator.done_at:
            self.relay.stopped.set()
        return mutator.take(self.channel, self.stream.over)

    def receive(self) -> bytes:
        """What there is, nothing at the end."""
        while not self.relay.broken:
            try:
                return self.source.recv(CHUNK)
            except TimeoutError:
                pass
        return b''

    def send(self, data: bytes) -> None:
        """All of it, unless the link breaks meanwhile."""
        while data and not self.relay.broken:
            try:
                size = self.target.send(data)
            except TimeoutError:
                continue
            data = data[size:]
            self.passed += size

    def pass_on(self, data: bytes) -> bool:
        """Pass it on, up to where the link ends; false if that is here."""
        if not self.relay.wait(self.channel):
            return False
        stops = [stop for stop in (self.pause, self.end) if stop is not None]
        stop = min(stops, default=self.passed + len(data) + 1)
        part = data[:stop - self.passed]
        self.send(part)
        if self.passed < stop:
            return not self.relay.broken
        if stop == self.end:
            self.relay.stop()
            return self.pass_on(data[len(part):])
        self.pause = None
        self.relay.hold(Channel.MAIN, Channel.PREEMPT)
        return self.pass_on(data[len(part):])


class Relay:
    """A link for one attempt to migrate: it is used once."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, target: int, *, watch: Optional[Watch] = None,
                 whole: bool = True, reset: bool = False,
                 silent: bool = False, listening: bool = False,
                 first: Optional[Channel] = None,
                 huge: Collection[str] = (), encrypted: bool = False,
                 memory: Optional[Memory] = None,
                 mutator: Optional[Mutator] = None):
        """
        @param target: the destination's port
        @param watch: says where to cut
        @param whole: it sees the migration from its start, and not a recovery
        @param reset: close connections in the middle of what they carry
        @param silent: hold it where it would be cut
        @param listening: no page comes through after the package
        @param first: the connection that is cut first, if not both at once
        @param huge: blocks of huge pages
        @param encrypted: what comes can't be read: there are no marks
        @param memory: what was there before, in a recovery that is read
        @param mutator: falsifies what goes over it; it is not cut then
        """
        # pylint: disable=too-many-arguments
        self.target = target
        self.encrypted = encrypted
        self.watch = watch
        self.whole = whole
        self.reset = reset
        self.silent = silent
        self.listening = listening
        self.first = first
        self.memory = memory or Memory(huge)
        self.mutator = mutator
        # What is held, and what is slow: seconds for each chunk.
        self.held: List[Channel] = []
        self.delay: Dict[Channel, float] = {}
        self.condition = threading.Condition(self.memory.lock)
        self.broken = False
        # It has come to where it is cut or held.
        self.stopped = threading.Event()
        self.cut_at: Optional[str] = None
        # The migration is over, and was never cut.
        self.over = False
        self.wrong: Optional[str] = None
        self.pipes: List[Pipe] = []
        self.server = socket.create_server(('127.0.0.1', 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """The main connection comes first, and the one for preempt later."""
        for channel in (Channel.MAIN, Channel.PREEMPT):
            try:
                source = self.server.accept()[0]
            except OSError:
                return
            with self.condition:
                if self.broken:
                    close_socket(source, self.reset)
                    continue
                target = socket.create_connection(('127.0.0.1', self.target))
                for sock in (source, target):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sock.settimeout(GLANCE)
                self.pipes.append(Pipe(self, channel, source, target,
                                       self.stream(channel)))
                back = Channel.RETURN if channel is Channel.MAIN else channel
                self.pipes.append(Pipe(self, back, target, source,
                                       self.stream(back) if back is not channel
                                       else None))

    def stream(self, channel: Channel) -> Optional[Stream]:
        """What reads a channel: all there is to read, or the return path."""
        read = self.whole or self.mutator or channel is Channel.RETURN
        if self.encrypted or not read:
            return None
        if not self.mutator:
            return Stream(channel, self.memory, self.marked)
        return Stream(channel, self.memory, self.marked, self.whole,
                      self.mutator.part)

    def marked(self, mark: Mark) -> None:
        """A mark was found, in the thread that is about to pass it on."""
        if not self.watch or self.cut_at:
            return
        if self.listening and mark.what == 'package':
            # What follows has to wait.
            self.pipes[0].pause = mark.end
        end = self.watch(self, mark)
        if end is None:
            self.over = self.over or mark.what == 'shut'
            return
        self.cut_at = (f'byte {end - mark.start} of {mark.end - mark.start} '
                       f"of '{mark.what}' of the {mark.channel.value}, "
                       f'{self.memory.missing} pages missing')
        for pipe in self.pipes:
            if pipe.stream and pipe.channel is mark.channel:
                pipe.end = end

    # --- What becomes of what comes ---

    def hold(self, *channels: Channel) -> None:
        """Nothing comes through, in these directions or in all."""
        with self.condition:
            self.held = list(channels or Channel)

    def release(self) -> None:
        """All comes through."""
        with self.condition:
            self.held = []
            self.delay = {}
            self.condition.notify_all()

    def slow(self, seconds: float) -> None:
        """Pages take so much longer."""
        self.delay = {Channel.MAIN: seconds, Channel.PREEMPT: seconds}

    def wait(self, channel: Channel) -> bool:
        """Wait until it may be passed on; false if there is no link."""
        if delay := self.delay.get(channel):
            time.sleep(delay)
        with self.condition:
            self.condition.wait_for(lambda: self.broken or
                                    channel not in self.held)
            return not self.broken

    # --- The end ---

    def stop(self) -> None:
        """This is where it ends."""
        if self.silent:
            self.hold()
        else:
            self.cut()
        self.stopped.set()

    def cut(self) -> None:
        """Cut it, in one or two steps."""
        with self.condition:
            if self.broken:
                return
            self.broken = True
            self.condition.notify_all()
        self.server.close()
        for pipe in self.pipes:
            if pipe.thread is not threading.current_thread():
                pipe.thread.join()
        preempt = [pipe for pipe in self.pipes
                   if pipe.channel is Channel.PREEMPT]
        main = [pipe for pipe in self.pipes if pipe not in preempt]
        steps = [main + preempt]
        if self.first and preempt:
            steps = [main, preempt]
            if self.first is Channel.PREEMPT:
                steps.reverse()
        for number, step in enumerate(steps):
            time.sleep(LATER if number else 0)
            for pipe in step:
                close_socket(pipe.source, self.reset)

    def closed(self, channel: Channel) -> None:
        """A side has closed a connection: so does the other."""
        preempt = channel is Channel.PREEMPT
        for pipe in self.pipes:
            same = preempt == (pipe.channel is Channel.PREEMPT)
            if same and not self.broken:
                try:
                    pipe.target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

    def close(self) -> None:
        """No more of it."""
        self.reset = True
        self.first = None
        self.cut()
