# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the guest says of its work, see guest/stress.c.

A guest has a console in each QEMU that it runs in.  Times are seconds of the
host's clock unless the name says otherwise.
"""

from pathlib import Path
import re
import socket
import threading
import time
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
)


WRONG = re.compile(r'(WRONG|Kernel panic|BUG:|I/O error)')


class Sample(NamedTuple):
    """A line of the guest's work."""
    arrival: float
    guest_ms: int
    pages: int
    passes: int
    # Touches of pages that took long, by bucket; see bucket_ns().
    slow: Dict[int, int]
    # Of those over a millisecond: when, in the guest's ms, and how many us.
    stalls: List[Tuple[int, int]]


def bucket_ns(number: int) -> Tuple[float, float]:
    """The limits of a bucket of Sample.slow: four for each power of two."""
    return 2 ** (number / 4), 2 ** ((number + 1) / 4)


def parse_pairs(text: str) -> List[Tuple[int, int]]:
    """"1:2,3:4" as numbers."""
    pairs = (pair.split(':') for pair in text.split(',') if pair)
    return [(int(a), int(b)) for a, b in pairs]


def parse_sample(line: str, arrival: float) -> Optional[Sample]:
    """A sample, if that is what the line is."""
    if not line.startswith('stress: t='):
        return None
    fields = dict(re.findall(r'(\w+)=(\S+)', line))
    try:
        return Sample(arrival, int(fields['t']), int(fields['pages']),
                      int(fields['pass']),
                      dict(parse_pairs(fields.get('slow', ''))),
                      parse_pairs(fields.get('at', '')))
    except (KeyError, ValueError):
        # Half of a line: QEMU was stopped for good in the middle of it.
        return None


class Console:
    """The guest's virtio serial port in one QEMU, read by a thread."""

    def __init__(self, path: Path):
        self.samples: List[Sample] = []
        self.up: Dict[str, str] = {}
        self.wrong: Optional[str] = None
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def args(self, log: Path) -> List[str]:
        """QEMU's arguments for it: /dev/vport0p1 in the guest."""
        return ['-chardev', f'socket,id=console,path={self.path},'
                f'logfile={log}', '-device', 'virtio-serial-pci',
                '-device', 'virtserialport,chardev=console,nr=1']

    def read(self) -> None:
        """Take lines as they come, until QEMU has ended."""
        connection, _ = self.listener.accept()
        self.listener.close()
        with connection, connection.makefile(errors='replace') as lines:
            for line in lines:
                self.take(line.strip(), time.time())

    def take(self, line: str, arrival: float) -> None:
        """One line."""
        if WRONG.search(line) and not self.wrong:
            self.wrong = line
        elif line.startswith('stress: up'):
            self.up = dict(re.findall(r'(\w+)=(\S+)', line))
        elif sample := parse_sample(line, arrival):
            self.samples.append(sample)

    def last(self) -> Optional[Sample]:
        """The latest sample."""
        return self.samples[-1] if self.samples else None

    def close(self) -> None:
        """QEMU never came."""
        self.listener.close()

    def offset(self) -> float:
        """
        What to add to the guest's clock.

        A line may be late, if what it takes to write it is missing, but never
        early; the clock of a guest that migrates stands still on the way.
        """
        return min(s.arrival - s.guest_ms / 1000 for s in self.samples)


def rates(consoles: List[Console]) -> List[Tuple[float, float]]:
    """Pages a second between samples, in the order of the consoles."""
    points: List[Tuple[float, int]] = []
    for console in consoles:
        if console.samples:
            offset = console.offset()
            points += [(s.guest_ms / 1000 + offset, s.pages)
                       for s in console.samples]
    return [(t, (pages - before) / (t - earlier))
            for (earlier, before), (t, pages) in zip(points, points[1:])
            if t > earlier]


def stalls(console: Console) -> List[Tuple[float, int]]:
    """Touches that took over a millisecond: when, and how many us."""
    if not console.samples:
        return []
    offset = console.offset()
    return [(ms / 1000 + offset, us)
            for sample in console.samples for ms, us in sample.stalls]


def slow_touches(console: Console, start: float, end: float
                 ) -> Dict[int, int]:
    """All slow touches in a time, by bucket; see bucket_ns()."""
    total: Dict[int, int] = {}
    if not console.samples:
        return total
    offset = console.offset()
    # A sample speaks of the time before it: the last one ends after the end.
    for sample in console.samples:
        t = sample.guest_ms / 1000 + offset
        if t >= start:
            for number, count in sample.slow.items():
                total[number] = total.get(number, 0) + count
        if t >= end:
            break
    return total
