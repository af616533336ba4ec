# SPDX-License-Identifier: GPL-2.0-or-later
"""
Two hosts, a domain in one of them, and what can be done with it.
"""

import json
import re
import shlex
import subprocess
from typing import (
    Any,
    Dict,
    Optional,
    Tuple,
)

from kuf import tap
from kuf.guest.machine import GuestError, pauses
from kuf.modes import KVM_USERFAULT
from kuf.virt.commands import COMMANDS
from kuf.virt.connection import Connection
from kuf.virt.daemons import Daemons
from kuf.virt.domain import (
    CONSOLE,
    LOG,
    NAME,
    WORK,
    Domain,
    Guest,
)
from kuf.virt.hosts import Host


# Over all memory of the guest, before and after.
PASSES = 2


class Running:
    """A migration that virsh waits for."""

    def __init__(self, process: 'subprocess.Popen[str]', what: str):
        self.process = process
        self.what = what

    def check(self) -> None:
        """It has not ended yet."""
        if self.process.poll() is not None:
            _, error = self.process.communicate()
            raise GuestError(f"'{self.what}' has ended: {error.strip()}")

    def end(self) -> str:
        """Wait for its end; what it complains of."""
        for _ in pauses(f"end of '{self.what}'", 0.2):
            if self.process.poll() is not None:
                break
        return self.process.communicate()[1].strip()


class Side:
    """A host with libvirt, and the guest there."""

    def __init__(self, host: Host):
        self.host = host
        self.daemons = Daemons(host)
        self.libvirt = Connection(host)
        self.guest = Guest(host)

    def virsh(self, key: str) -> str:
        """Run a command there; returns what it prints."""
        return self.host.run(*shlex.split(COMMANDS[key]))

    def start_virsh(self, key: str) -> Running:
        """Start one that takes its time."""
        return Running(self.host.start(*shlex.split(COMMANDS[key])),
                       COMMANDS[key])

    def qemu(self) -> int:
        """The process that is the domain."""
        pids = self.host.pids(self.host.process_name)
        if len(pids) != 1:
            raise GuestError(f'{self.host.name} has {len(pids)} domains')
        return pids[0]

    def state(self) -> str:
        """What libvirt says of the domain, nothing if it has none."""
        return self.libvirt.state(NAME)

    def wait_state(self, *wanted: str,
                   running: Optional[Running] = None) -> None:
        """Wait for one of these states, which a migration is to bring."""
        for _ in pauses(f"state '{' or '.join(wanted)}' of the domain in "
                        f'{self.host.name}', 0.2):
            if self.state() in wanted:
                return
            if running:
                running.check()

    def job(self, key: str = 'progress') -> Dict[str, str]:
        """What virsh says of the migration."""
        return {name.strip(): ' '.join(value.split()) for name, _, value in (
            line.partition(':') for line in self.virsh(key).splitlines())
            if value}

    def size(self) -> Tuple[int, int]:
        """The domain's vCPUs, and its memory in megabytes."""
        info = dict(re.findall(r'^([^:]+): +(\d+)',
                               self.host.run('virsh', 'dominfo', NAME), re.M))
        return int(info['CPU(s)']), int(info['Max memory']) // 1024

    def migration(self) -> Dict[str, Any]:
        """What QEMU says of it."""
        answer: Dict[str, Any] = json.loads(self.virsh('backend'))
        return dict(answer['return'])

    def forget(self) -> None:
        """No domain, and nothing of what it said."""
        self.libvirt.forget(NAME)
        for name in (CONSOLE, WORK, LOG):
            self.host.path(name).unlink(missing_ok=True)
        self.daemons.forget()


class Scene:
    """Two hosts; the first has the guest, or the one that it went to."""

    def __init__(self, source: Side, destination: Side):
        self.sides = (source, destination)
        self.source = source
        self.destination = destination
        # So often a guest starts, as far as it is known what they have said.
        self.starts = 1
        # What virsh said, if that is what matters.
        self.said = ''

    def start(self, domain: Domain) -> None:
        """A guest that has written to all of its memory."""
        self.source.libvirt.start(domain.xml(self.source.host.emulator))
        self.source.guest.wait_passes(PASSES)
        tap.comment('the guest has written to all of its memory')
        self.slow_down()

    def slow_down(self) -> None:
        """Memory takes its time, on an idle network as on a busy one."""
        self.source.virsh('speed')
        self.source.virsh('postcopy-speed')

    def check(self) -> None:
        """The guest has seen nothing wrong."""
        for side in self.sides:
            side.guest.check()
        # Who finds nothing where its code was is reset, and all is well again.
        if sum(side.guest.starts() for side in self.sides) > self.starts:
            raise GuestError('the guest has started again')

    def precopy(self, key: str) -> Running:
        """Start a migration, and wait until the first pass is over."""
        running = self.source.start_virsh(key)
        for _ in pauses('second pass over memory', 0.5):
            running.check()
            self.check()
            if self.source.libvirt.job(NAME).get('memory_iteration', 0) >= 2:
                break
        if int((job := self.source.job()).get('Iteration', '0')) < 2:
            raise GuestError(f"'{COMMANDS['progress']}' says: {job}")
        tap.comment('most of it is sent')
        return running

    def switch(self) -> None:
        """The guest moves."""
        self.source.virsh('switch')
        self.destination.wait_state('running (post-copy)',
                                    'running (post-copy failed)',
                                    'running (migrated)')

    def complete(self, running: Optional[Running] = None) -> None:
        """All has arrived, and the guest has always had what it wrote."""
        if running and (error := running.end()):
            raise GuestError(f"'{running.what}' says: {error}")
        self.destination.wait_state('running (migrated)')
        # It is gone where it came by a migration before.
        self.source.wait_state('shut off (migrated)', '')
        self.destination.guest.wait_passes(PASSES)
        self.check()

    def turn_round(self) -> None:
        """The other way, the next time."""
        self.source, self.destination = self.destination, self.source
        self.destination.host.path(WORK).unlink(missing_ok=True)
        self.starts = 0
        self.slow_down()

    def check_backend(self, wanted: str) -> str:
        """Who caught accesses to missing memory; what was counted."""
        fault = self.destination.migration().get('postcopy-fault', {})
        if fault.get('backend') != wanted:
            raise GuestError(f"the backend was {fault.get('backend')}, and not "
                             f'{wanted}')
        counts = fault.get(KVM_USERFAULT)
        if counts is None:
            return wanted
        if not counts['vcpu-faults']:
            raise GuestError('no vCPU missed a page')
        return (f"{wanted}, vcpu faults {counts['vcpu-faults']}, RAM waits "
                f"{counts['ram-waits']}, put off {counts['put-off']}")

    def check_completed(self) -> None:
        """What virsh has of it when it is over."""
        job = self.source.job('completed')
        if job.get('Job type') != 'Completed':
            raise GuestError(f"'{COMMANDS['completed']}' says: {job}")

    def stays(self) -> None:
        """The guest goes on where it was, and is nowhere else."""
        self.source.wait_state('running (migration canceled)',
                               'running (booted)')
        self.source.guest.wait_passes(PASSES)
        self.check()
        if state := self.destination.state():
            raise GuestError(f'{self.destination.host.name} has a domain that '
                             f'is {state}')

    def clean(self) -> None:
        """No guest, and nothing of what it said."""
        for side in self.sides:
            side.forget()
        self.source, self.destination = self.sides
        self.starts = 1

    def close(self) -> None:
        """No hosts any more."""
        for side in self.sides:
            side.host.close()
