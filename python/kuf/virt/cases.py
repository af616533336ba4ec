# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is tested of migration by libvirt: a table of cases.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Sequence,
)

from kuf.guest.backing import HUGETLB, check_huge_pages, huge_pages
from kuf.guest.machine import GuestError, pauses
from kuf.host import settings
from kuf.process import threads
from kuf.virt import certificates, vhost_user
from kuf.virt.domain import (
    DIMM,
    EXPLICIT,
    HUGE_PAGES,
    MEDIATED,
    MEMORY,
    MORE_MEMORY,
    NAME,
    NODE,
    SHARED,
    UEFI,
    VFIO,
    VHOST_USER,
    VHOST_USER_SOCKET,
    VIRTIOFS,
    VSOCK,
    Domain,
)
from kuf.virt.hosts import FOLDER
from kuf.virt.scene import Running, Scene, Side


# Daemons say that of their own starting, in a host without D-Bus, dnsmasq, udev
# and DMI, which nothing here needs.
STARTED = (
    r"Unable to find 'dnsmasq' binary",
    r'Unable to get system bus connection',
    r'DBus not available, disabling firewalld support',
    r'udevGetDMIData:\d+ : .* Failed to get udev device',
    r'Child process \((/usr)?/sbin/dmidecode .*\) unexpected exit status',
)
# The tests ask QEMU themselves, and give it an option and the host's processor;
# and virsh hangs up when it has its answer, while libvirtd may be about to read
# on.
ASKED = (r'is tainted: (custom-monitor|custom-argv|host-cpu)',
         r'virNetSocketReadWire:\d+ : End of file while reading data')
# Libvirt 9.0 does not know all states that QEMU 10.0 has.
UNKNOWN = (r"unknown status 'postcopy-recover-setup' in migration event",)
# What it says of a migration that was interrupted.
INTERRUPTED = (
    r'job .migration in. failed in post-copy phase',
    r'failed during post-copy; leaving the domain (paused|running)',
    r'The connection which controls migration of domain guest was closed',
    *UNKNOWN,
)
# What one says whose peer has gone.
ALONE = (
    r'client socket is closed',
    r'failed during post-copy; leaving the domain (paused|running)',
)
# And whose QEMU, which ends when nothing comes to it.
ENDED = (r'(qemu|QEMU) unexpectedly closed the monitor',
         r'Unable to read from monitor: Connection reset by peer')
# 9.0 looks only at the memory of NUMA nodes.
UNSHARED = (r'Detected vhost-user interface without any shared memory',)
# It says that on both sides; the whole sentence is asked for elsewhere.
REFUSED = (*ENDED, *UNSHARED, r'Postcopy is not supported: ',
           r'migration with virtiofs device is not supported')


@dataclass(frozen=True)
class Case:
    """A migration, and what libvirt may complain of then."""
    run: Callable[[Scene], None]
    domain: Domain = Domain(EXPLICIT)
    expected: Sequence[str] = ()
    # Whether virsh has figures in the end: not of a migration that was finished
    # by another command than the one that began it, nor where the domain was
    # not defined, as the one that came by migration, and has left again.
    figures: bool = True
    # What virsh says instead of migrating, see kuf.virt.refusals.
    refused: str = ''
    # What both hosts need before.
    prepare: Callable[[Scene], None] = lambda scene: None


def _switched(scene: Scene, key: str = 'migrate') -> Running:
    """Begin a migration by that command, and have the guest move."""
    running = scene.precopy(key)
    scene.switch()
    return running


def _plain(scene: Scene, key: str = 'migrate') -> None:
    scene.complete(_switched(scene, key))


def _preempt(scene: Scene) -> None:
    """libvirt takes the second channel where it can; 9.0 can not."""
    running = _switched(scene)
    # The source has switched; the destination may not have come to it.
    for _ in pauses('channel for the pages that are asked for', 0.1):
        if threads(scene.destination.qemu(), 'mig/dst/preempt'):
            break
    scene.complete(running)


def _direct(scene: Scene) -> None:
    _plain(scene, 'migrate-direct')


def _after_precopy(scene: Scene) -> None:
    scene.complete(scene.source.start_virsh('after-precopy'))


def _interrupt(scene: Scene) -> None:
    """Both sides know that it was."""
    scene.source.virsh('interrupt')
    scene.source.wait_state('paused (post-copy failed)')
    scene.destination.wait_state('running (post-copy failed)')


def _recovery(scene: Scene) -> None:
    running = _switched(scene)
    for _ in range(3):
        _interrupt(scene)
        if 'failed in post-copy phase' not in (error := running.end()):
            raise GuestError(f"'{running.what}' says: {error}")
        running = scene.source.start_virsh('resume')
        scene.destination.wait_state('running (post-copy)', running=running)
    scene.complete(running)


def _killed(scene: Scene, side: Side) -> None:
    """The migration goes on without the daemon."""
    running = _switched(scene)
    side.daemons.kill()
    running.end()
    side.daemons.start()
    scene.complete()


def _killed_resume(scene: Scene, side: Side, state: str) -> None:
    """It does not go on without being told to."""
    running = _switched(scene)
    _interrupt(scene)
    running.end()
    side.daemons.restart()
    side.wait_state(state)
    scene.complete(scene.source.start_virsh('resume'))


def _cancel(scene: Scene) -> None:
    """Before the guest has moved; the next time it does."""
    running = scene.precopy('migrate')
    scene.source.virsh('cancel')
    if 'canceled by client' not in (error := running.end()):
        raise GuestError(f"'{running.what}' says: {error}")
    scene.stays()
    _plain(scene)


def _both_directions(scene: Scene) -> None:
    _plain(scene)
    scene.check_completed()
    scene.turn_round()
    _plain(scene, 'migrate-back')


def _tls(scene: Scene) -> None:
    _plain(scene, 'migrate-tls')


def _plug(scene: Scene) -> None:
    """What was migrated can be extended, and migrated again."""
    _plain(scene)
    scene.check_completed()
    scene.destination.host.write(f'{FOLDER}/memory.xml', DIMM)
    for key in ('plug-vcpus', 'plug-memory'):
        scene.destination.virsh(key)
    if (size := scene.destination.size()) != (3, MEMORY + 128):
        raise GuestError(f'the domain has {size[0]} vCPUs, {size[1]} MB')
    scene.turn_round()
    _plain(scene, 'migrate-back')


def _refused(scene: Scene, key: str = 'migrate') -> None:
    """The guest goes on where it was; virsh says why."""
    scene.said = scene.source.start_virsh(key).end()
    scene.stays()


def _refused_mediated(scene: Scene) -> None:
    """The destination has another device."""
    source = scene.source
    source.host.write(f'{FOLDER}/destination.xml', source.libvirt.description(
        NAME).replace(*MEDIATED))
    _refused(scene, 'migrate-changed')


def _reserve_pages(_scene: Scene) -> None:
    """For both hosts' guests; the host ends with the test."""
    pages = huge_pages(MEMORY)
    settings.write(HUGETLB, pages)
    check_huge_pages(pages)


def _serve_vhost_user(scene: Scene) -> None:
    """Something answers, and would take what it is given."""
    for side in scene.sides:
        vhost_user.serve(side.host.path(VHOST_USER_SOCKET))


def _mediate(scene: Scene) -> None:
    """There are devices, and nodes for them."""
    types = Path('/sys/class/mdev_bus/mtty/mdev_supported_types')
    for device in MEDIATED:
        if not Path('/sys/bus/mdev/devices', device).exists():
            (types / 'mtty-1/create').write_text(device, encoding='ascii')
    for side in scene.sides:
        for node in Path('/dev/vfio').iterdir():
            side.host.give(f'vfio/{node.name}')


def _certify(scene: Scene) -> None:
    """Certificates are there, and used for libvirt's own connections, too."""
    certificates.install([side.host for side in scene.sides])
    for side in scene.sides:
        side.daemons.listen_tls()


def _refusal(devices: str, name: str,
             run: Callable[[Scene], None] = _refused, **more: Any) -> Case:
    """A case in which nothing is migrated."""
    return Case(run, Domain(EXPLICIT, SHARED, devices), expected=REFUSED,
                refused=name, **more)


CASES: Dict[str, Case] = {
    'plain': Case(_plain),
    'automatic': Case(_plain, Domain()),
    'preempt': Case(_preempt),
    'direct': Case(_direct),
    'after-precopy': Case(_after_precopy),
    'recovery': Case(_recovery, expected=INTERRUPTED, figures=False),
    'source-daemon': Case(
        lambda scene: _killed(scene, scene.source),
        expected=ALONE, figures=False),
    'destination-daemon': Case(
        lambda scene: _killed(scene, scene.destination),
        expected=ALONE, figures=False),
    'source-daemon-resume': Case(
        lambda scene: _killed_resume(scene, scene.source,
                                     'paused (post-copy failed)'),
        expected=(*INTERRUPTED, *ALONE), figures=False),
    'destination-daemon-resume': Case(
        lambda scene: _killed_resume(scene, scene.destination,
                                     'running (post-copy failed)'),
        expected=(*INTERRUPTED, *ALONE), figures=False),
    'cancel': Case(_cancel, expected=(
        *ENDED, r'canceled by client',
        r"job 'migration in' failed: load of migration failed: ")),
    'both-directions': Case(_both_directions, figures=False),
    'tls': Case(_tls, prepare=_certify),
    'uefi': Case(_plain, Domain(EXPLICIT, firmware=UEFI, kernel='vmlinuz')),
    'huge-pages': Case(_plain, Domain(EXPLICIT, HUGE_PAGES),
                       prepare=_reserve_pages),
    'plug': Case(_plug, Domain(EXPLICIT, maximum=MORE_MEMORY, cpu=NODE,
                               vcpus=" current='2'>4"), figures=False),
    'vhost-vsock': _refusal(VSOCK, 'vhost-vsock'),
    'vhost-user': _refusal(VHOST_USER, 'vhost-user', prepare=_serve_vhost_user),
    'vfio': _refusal(VFIO, 'vfio', _refused_mediated, prepare=_mediate),
    'virtiofs': _refusal(VIRTIOFS, 'virtiofs'),
}
