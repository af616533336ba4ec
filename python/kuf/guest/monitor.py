# SPDX-License-Identifier: GPL-2.0-or-later
"""
A monitor as management software uses it: without out-of-band commands.
"""

import json
from pathlib import Path
import socket
import time
from typing import (
    Any,
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf.guest.machine import GuestError


# In what time a command must be answered, in seconds.
PROMPT = 1.0
# How long it is worth to wait, only to tell how late it was.
LATE = 5.0


class Deaf(GuestError):
    """There was no answer in time."""


class Answer(NamedTuple):
    """What came back, and after how many seconds."""
    value: Any
    seconds: float


class Monitor:
    """
    One connection; qemu.qmp would switch out-of-band commands on.

    Answers that come too late are read, and dropped, with the next ones.
    """

    def __init__(self, path: Path, side: str, oob: bool = False):
        """
        @param side: what errors call its QEMU
        @param oob: give commands that can be so out-of-band
        """
        self.side = side
        self.oob = oob
        self.number = 0
        self.rest = b''
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.lines(1)
        self.ask('qmp_capabilities', 60, enable=['oob'] if oob else [])

    @staticmethod
    def args(path: Path) -> List[str]:
        """QEMU's arguments for it."""
        return ['-chardev',
                f'socket,id=in-band,path={path},server=on,wait=off',
                '-mon', 'chardev=in-band,mode=control']

    def closed(self) -> GuestError:
        """Its QEMU has ended, or is about to."""
        return GuestError(f"the {self.side}'s monitor is closed")

    def lines(self, least: int = 0) -> List[Dict[str, Any]]:
        """What QEMU has sent; the socket's timeout is for the first part."""
        lines: List[bytes] = []
        while len(lines) < max(least, 1):
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                break
            except OSError as exc:
                raise self.closed() from exc
            if not data:
                raise self.closed()
            *more, self.rest = (self.rest + data).split(b'\n')
            lines += [line for line in more if line.strip()]
        return [json.loads(line) for line in lines]

    def send(self, command: str, arguments: Dict[str, object]) -> int:
        """Send a command; returns its number."""
        self.number += 1
        key = 'execute'
        if self.oob and command in ('migrate-pause', 'migrate-recover'):
            key = 'exec-oob'
        message = {key: command, 'arguments': arguments, 'id': self.number}
        try:
            self.socket.sendall(json.dumps(message).encode())
        except OSError as exc:
            raise self.closed() from exc
        return self.number

    def answer(self, number: int, patience: float) -> Optional[Dict[str, Any]]:
        """The answer to a command, None if there is none in that time."""
        deadline = time.monotonic() + patience
        while (rest := deadline - time.monotonic()) > 0:
            self.socket.settimeout(rest)
            for line in self.lines():
                if line.get('id') == number:
                    return line
        return None

    def ask(self, command: str, limit: float = PROMPT,
            **arguments: object) -> Answer:
        """
        Run a command; Deaf if it is not answered within LIMIT seconds.
        Underscores in arguments stand for dashes.
        """
        start = time.monotonic()
        number = self.send(command, {name.replace('_', '-'): value
                                     for name, value in arguments.items()})
        answer = self.answer(number, max(limit, LATE))
        seconds = time.monotonic() - start
        if answer is None or seconds >= limit:
            late = ('not in ' if answer is None else 'after ') + \
                f'{seconds:.1f} s'
            raise Deaf(f"the {self.side} answered to '{command}' {late}, "
                       f'and {limit:g} s is the limit')
        if 'error' in answer:
            raise GuestError(f"the {self.side} refused '{command}': "
                             f"{answer['error']['desc']}")
        return Answer(answer['return'], seconds)

    def close(self) -> None:
        """No more of it."""
        self.socket.close()
