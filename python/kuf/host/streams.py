# SPDX-License-Identifier: GPL-2.0-or-later
"""
Streams between the caller and a host.

A thread copies in one direction as data comes, until either end closes.
"""

import os
import signal
import socket
import threading
from typing import (
    IO,
    Callable,
    List,
    Optional,
)


def copy_out(receive: Callable[[], bytes], target: IO[bytes]
             ) -> threading.Thread:
    """Copy what is received to a file of the caller's; ends with nothing."""
    def copy() -> None:
        while data := receive():
            try:
                target.write(data)
                target.flush()
            except BrokenPipeError:
                os.kill(os.getpid(), signal.SIGPIPE)
                return
    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


class Stream:
    """One stream between the caller and a port of the host."""

    def __init__(self) -> None:
        self.ours, self.qemus = socket.socketpair()
        self.qemus.set_inheritable(True)
        self.thread: Optional[threading.Thread] = None

    def chardev(self, name: str) -> List[str]:
        """QEMU's arguments for its end."""
        return ['-chardev', f'socket,id={name},fd={self.qemus.fileno()}']

    def copy_in(self, source: IO[bytes]) -> None:
        """Start copying from a file of the caller's to the host."""
        def copy() -> None:
            try:
                while data := os.read(source.fileno(), 65536):
                    self.ours.sendall(data)
                self.ours.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the host has ended
        threading.Thread(target=copy, daemon=True).start()

    def copy_out(self, target: IO[bytes]) -> None:
        """Start copying from the host to a file of the caller's."""
        self.thread = copy_out(self.receive, target)

    def receive(self) -> bytes:
        """Some bytes from the host, none when it has ended."""
        try:
            return self.ours.recv(65536)
        except OSError:
            return b''

    def drain(self) -> None:
        """Wait until all that the host wrote has been copied."""
        if self.thread:
            self.thread.join()
