# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is between the two sides of a migration, and what the guest talks to.

Without a round-trip time both sides share a Unix socket.  With one, each has a
network namespace, and packets between these are delayed on their way.
"""

from pathlib import Path
import subprocess
from typing import List

from kuf.cli import Failure
from kuf.guest.echo import Echo


MIGRATION_PORT = 9001
NAMES = ('demo-even', 'demo-odd')


def ip(command: str) -> None:
    """Run ip, or tc."""
    words = command.split()
    program = [] if words[0] == 'tc' else ['ip']
    result = subprocess.run([*program, *words], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, encoding='utf-8',
                            check=False)
    if result.returncode:
        raise Failure(f"'{' '.join([*program, *words])}' failed: "
                      f'{result.stdout.strip()}; a round-trip time takes '
                      "root's rights and a kernel with netem")


class Network:
    """What the two sides of a migration, and the guest, have between them."""

    def wrapper(self, number: int) -> List[str]:
        """What starts side NUMBER in its place."""
        raise NotImplementedError

    def uri(self, number: int) -> str:
        """Where side NUMBER listens."""
        raise NotImplementedError

    def close(self) -> None:
        """Take it away."""
        raise NotImplementedError


class LocalNetwork(Network):
    """Both sides are as near to each other as can be."""

    def __init__(self, job: Path):
        self.job = job
        self.echo = Echo('127.0.0.1')

    def wrapper(self, number: int) -> List[str]:
        """Nothing special."""
        return []

    def uri(self, number: int) -> str:
        """Where side NUMBER listens."""
        return f'unix:{self.job}/migration-{number}'

    def close(self) -> None:
        """Nothing to be done."""


class ShapedNetwork(Network):
    """Two namespaces, one for even sides and one for odd ones."""

    def __init__(self, rtt_us: int):
        self.close()
        for name in NAMES:
            ip(f'netns add {name}')
        ip(f'link add veth0 netns {NAMES[0]} type veth '
           f'peer veth0 netns {NAMES[1]}')
        for number, name in enumerate(NAMES):
            ip(f'-n {name} link set lo up')
            ip(f'-n {name} addr add {self.address(number)}/24 dev veth0')
            ip(f'-n {name} link set veth0 up')
            ip(f'tc -n {name} qdisc add dev veth0 root netem limit 100000 '
               f'delay {rtt_us / 2}us')
        self.echoes = [Echo('127.0.0.1', name) for name in NAMES]

    @staticmethod
    def address(number: int) -> str:
        """The address of side NUMBER."""
        return f'10.0.4.{1 + number % 2}'

    def wrapper(self, number: int) -> List[str]:
        """What starts side NUMBER in its place."""
        return ['ip', 'netns', 'exec', NAMES[number % 2]]

    def uri(self, number: int) -> str:
        """Where side NUMBER listens."""
        return f'tcp:{self.address(number)}:{MIGRATION_PORT + number}'

    def close(self) -> None:
        """Take them away; what is left of one that was killed, too."""
        for name in NAMES:
            if Path('/run/netns', name).exists():
                ip(f'netns del {name}')


def create_network(job: Path, rtt_us: int) -> Network:
    """The network for a round-trip time, 0 for the shortest."""
    return ShapedNetwork(rtt_us) if rtt_us else LocalNetwork(job)
