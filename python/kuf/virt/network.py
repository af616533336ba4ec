# SPDX-License-Identifier: GPL-2.0-or-later
"""
The network between two hosts: a cable, and a bridge in each, where its guests'
interfaces are plugged in, too.
"""

import subprocess
from typing import Sequence

from kuf.virt.hosts import Host


BRIDGE = 'br0'
CABLE = 'eth0'


def connect(hosts: Sequence[Host]) -> None:
    """Give them addresses, and names for them."""
    first, second = hosts
    subprocess.run(
        ['ip', 'link', 'add', CABLE, 'netns', str(first.pid), 'type', 'veth',
         'peer', 'name', CABLE, 'netns', str(second.pid)], check=True)
    names = ''.join(f'{host.address} {host.name}\n' for host in hosts)
    for host in hosts:
        host.write('/etc/hosts', f'127.0.0.1 localhost\n{names}')
        for command in (f'link add {BRIDGE} type bridge',
                        f'addr add {host.address}/24 dev {BRIDGE}',
                        f'link set {CABLE} master {BRIDGE}',
                        f'link set {CABLE} up', f'link set {BRIDGE} up'):
            host.run('ip', *command.split())
