# SPDX-License-Identifier: GPL-2.0-or-later
"""
A connection to a host's libvirt, to look at the domain and to clear it away.

What a user does is done by virsh, see kuf.virt.commands.  It takes a second to
start in an emulated host, so nothing is asked for again and again by it.
"""

from contextlib import contextmanager
from typing import Dict, Iterator, Optional

import libvirt

from kuf.cli import Failure
from kuf.virt.daemons import SOCKET
from kuf.virt.hosts import Host


# As virsh says them.
RUNNING = {
    libvirt.VIR_DOMAIN_RUNNING_BOOTED: 'booted',
    libvirt.VIR_DOMAIN_RUNNING_MIGRATED: 'migrated',
    libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED: 'migration canceled',
    libvirt.VIR_DOMAIN_RUNNING_POSTCOPY: 'post-copy',
    libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED: 'post-copy failed',
    libvirt.VIR_DOMAIN_RUNNING_UNPAUSED: 'unpaused',
}
PAUSED = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: 'migrating',
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: 'post-copy',
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: 'post-copy failed',
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: 'starting up',
}
SHUT_OFF = {
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: 'migrated',
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: 'destroyed',
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: 'crashed',
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: 'failed',
}
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: ('running', RUNNING),
    libvirt.VIR_DOMAIN_PAUSED: ('paused', PAUSED),
    libvirt.VIR_DOMAIN_SHUTOFF: ('shut off', SHUT_OFF),
}


# Errors are raised, and not printed, too.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


def _destroy(domain: 'libvirt.virDomain') -> None:
    domain.destroy()


def _undefine(domain: 'libvirt.virDomain') -> None:
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


class Connection:
    """To the daemon that runs there now; a daemon can come to its end."""

    def __init__(self, host: Host):
        self.host = host
        self.libvirt: Optional['libvirt.virConnect'] = None

    def _open(self) -> 'libvirt.virConnect':
        if self.libvirt is None or not self._alive():
            self.libvirt = libvirt.open('qemu+unix:///system?socket='
                                        f'{self.host.path(SOCKET)}')
        return self.libvirt

    def _alive(self) -> bool:
        """Does the daemon answer?"""
        assert self.libvirt is not None
        try:
            self.libvirt.getLibVersion()
            return True
        except libvirt.libvirtError:
            return False

    @contextmanager
    def _asked(self) -> Iterator['libvirt.virConnect']:
        """What libvirt refuses is a Failure."""
        try:
            yield self._open()
        except libvirt.libvirtError as exc:
            raise Failure(f'libvirt in {self.host.name} says: {exc}') from exc

    def _domain(self, name: str) -> Optional['libvirt.virDomain']:
        """Nothing as well if no daemon runs."""
        try:
            return self._open().lookupByName(name)
        except libvirt.libvirtError:
            return None

    def version(self) -> str:
        """The daemon's."""
        with self._asked() as there:
            number = there.getLibVersion()
        return '.'.join(str(number // unit % 1000)
                        for unit in (1000000, 1000, 1))

    def start(self, xml: str) -> None:
        """Define a domain, and start it."""
        with self._asked() as there:
            there.defineXML(xml).create()

    def description(self, name: str) -> str:
        """As another host could define it."""
        with self._asked() as there:
            xml: str = there.lookupByName(name).XMLDesc(
                libvirt.VIR_DOMAIN_XML_MIGRATABLE)
        return xml

    def state(self, name: str) -> str:
        """As 'virsh domstate --reason' says it, or nothing."""
        domain = self._domain(name)
        if domain is None:
            return ''
        try:
            state, reason = domain.state()
        except libvirt.libvirtError:
            return ''
        if state not in STATES:
            return f'state {state} ({reason})'
        word, reasons = STATES[state]
        return f'{word} ({reasons.get(reason, reason)})'

    def job(self, name: str) -> Dict[str, int]:
        """How far the migration is."""
        with self._asked() as there:
            stats: Dict[str, int] = there.lookupByName(name).jobStats()
        return stats

    def forget(self, name: str) -> None:
        """No such domain any more."""
        for clear in (_destroy, _undefine):
            try:
                if domain := self._domain(name):
                    clear(domain)
            except libvirt.libvirtError:
                continue  # it does not run, or goes when it ends
