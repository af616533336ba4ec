# SPDX-License-Identifier: GPL-2.0-or-later
"""
libvirt's daemons in a host.
"""

import os
import re
import signal
from typing import List, Mapping

from kuf.cli import Failure
from kuf.guest.machine import pauses
from kuf.virt.hosts import Host


CONFIGURATION = '/etc/libvirt/libvirtd.conf'
DRIVER = '/etc/libvirt/qemu.conf'
LOG = '/var/log/libvirt/libvirtd.log'
SOCKET = '/run/libvirt/libvirt-sock'
# What confines the daemon, without which it confines no domain, and whoever
# writes the domains' profiles.
PROFILES = ('/etc/apparmor.d/usr.sbin.libvirtd',
            '/etc/apparmor.d/usr.lib.libvirt.virt-aa-helper')
# A line of a log; libvirt's levels begin with info and warning.
LINE = re.compile(r'^\S+ \S+: \d+: ((?:error|warning) : .*)$', re.M)

# In seconds: an emulated host can stand still for longer than a peer may.
PATIENT = {'keepalive_interval': '30'}

# What a daemon takes from the other one, and where it says what is wrong.
SETTINGS = {
    # Without certificates.
    'listen_tls': '0',
    'listen_tcp': '1',
    'auth_tcp': '"none"',
    'log_outputs': f'"3:file:{LOG}"',
    **PATIENT,
}


def lines(settings: Mapping[str, str]) -> str:
    """As a file of libvirt's has them."""
    return ''.join(f'{name} = {value}\n' for name, value in settings.items())


class Daemons:
    """virtlogd and libvirtd of a host, as Debian has them."""

    def __init__(self, host: Host):
        self.host = host
        self.stock = host.read(CONFIGURATION)
        self.configure(SETTINGS)
        host.write(DRIVER, host.read(DRIVER) + lines(PATIENT))
        self.seen = 0
        if host.confined:
            host.run('apparmor_parser', '--replace', *PROFILES)
        host.run('virtlogd', '--daemon')
        self.start()

    def configure(self, settings: Mapping[str, str]) -> None:
        """Debian's configuration, and these."""
        self.host.write(CONFIGURATION, self.stock + lines(settings))

    def start(self) -> None:
        """Start libvirtd, and wait for it."""
        self.host.run('libvirtd', '--daemon', '--listen')

    def kill(self) -> None:
        """End libvirtd as a crash does."""
        pids = self.host.pids('libvirtd')
        if not pids:
            raise Failure(f'libvirtd does not run in {self.host.name}')
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for _ in pauses(f'end of libvirtd in {self.host.name}', 0.1):
            if not self.host.pids('libvirtd'):
                break

    def restart(self) -> None:
        """Another one takes its place."""
        self.kill()
        self.start()

    def listen_tls(self) -> None:
        """From now on; there are certificates."""
        self.configure({**SETTINGS, 'listen_tls': '1'})
        self.restart()

    def said(self) -> str:
        """What its log has got since it was forgotten."""
        return self.host.read(LOG)[self.seen:]

    def forget(self) -> None:
        """What it has said so far."""
        self.seen = len(self.host.read(LOG))

    def complaints(self) -> List[str]:
        """Errors and warnings that it has said."""
        return [line[1] for line in LINE.finditer(self.said())]
