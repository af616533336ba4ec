# SPDX-License-Identifier: GPL-2.0-or-later
"""
The server that guests exchange datagrams with, see "net" in init.c.
"""

import ctypes
import os
import socket
import threading
from typing import Optional

from kuf.guest.machine import GuestError


ECHO_PORT = 9000
CLONE_NEWNET = 0x40000000


def enter_namespace(name: str) -> None:
    """Have this thread in a network namespace."""
    fd = os.open(f'/run/netns/{name}', os.O_RDONLY)
    ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET)
    os.close(fd)


class Echo:
    """It sends each datagram back."""

    def __init__(self, address: str = '', namespace: Optional[str] = None):
        """
        @param address: where it listens; everywhere if it is empty
        @param namespace: network namespace, of "ip netns"
        """
        self.wrong: Optional[str] = None
        self.received = 0
        ready = threading.Event()
        threading.Thread(target=self.serve, args=(address, namespace, ready),
                         daemon=True).start()
        ready.wait()

    def serve(self, address: str, namespace: Optional[str],
              ready: threading.Event) -> None:
        """All words of a datagram are the same, see init.c."""
        # A socket stays in the namespace of the thread that made it.
        if namespace:
            enter_namespace(namespace)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, ECHO_PORT))
        ready.set()
        while True:
            data, sender = server.recvfrom(65536)
            self.received += 1
            if data != data[:8] * 175:
                self.wrong = f'{len(data)} bytes: {data[:64].hex()}...'
            server.sendto(data, sender)

    def check(self) -> None:
        """Was each datagram as the guest had written it?"""
        if self.wrong:
            raise GuestError(f'the guest sent a wrong datagram, {self.wrong}')
