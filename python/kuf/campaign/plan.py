# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is drawn for one migration: a guest, a link, and what happens to them.
"""

from dataclasses import dataclass
import random
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

from kuf.campaign.faults import FAULTS
from kuf.campaign.hosts import HOSTS
from kuf.guest.backing import fitting
from kuf.guest.devices import DEVICES
from kuf.guest.worker import MEMORY
from kuf.link.cuts import (
    POINTS,
    Point,
    at,
    drawn,
)
from kuf.modes import KVM_USERFAULT, Mode


MB = 1 << 20

# The guest's processor: as it is in all other tests, with nothing of KVM's, and
# with Hyper-V's.
PROCESSORS: Dict[str, str] = {
    'kvm': '',
    'no-kvm': 'kvm=off',
    'hyperv': 'hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-time,'
              'hv-synic,hv-stimer,hv-runtime,hv-reset,hv-frequencies',
}

# The link's tests have a display anyway; memory that a guest reports as free
# takes a conversation with it.
DEVICE_NAMES = sorted(name for name, device in DEVICES.items()
                      if name != 'vga' and not device.report)

# So many runs are of the same guest: to boot it takes as long as one of them.
SAME_GUEST = 5

_T = TypeVar('_T')


class Timed(NamedTuple):
    """What happens, how many seconds after the switch, and how long."""
    name: str
    after: float
    length: float


# pylint: disable=too-many-instance-attributes
@dataclass(frozen=True)
class Plan:
    """A migration."""
    seed: int
    number: int
    # The guest.
    device: str
    backing: Optional[str]
    vcpus: int
    processor: str
    # The migration.
    mode: Mode
    tls: bool
    oob: bool
    blocktime: bool
    oracle: bool
    # When the guest moves: so much of its memory, in bytes, is kept back.
    rest: int
    # Of pages that nobody asked for, in bytes a second.
    bandwidth: int
    # Seconds that a part of the stream takes longer, and how many packets get
    # lost, in percent.
    delay: float
    loss: float
    # What happens.
    host: str
    where: str
    point: Optional[Point]
    faults: Sequence[Timed]

    @property
    def guest(self) -> Tuple[int, int]:
        """Runs of the same are of the same guest."""
        return self.seed, self.number // SAME_GUEST

    def features(self) -> List[str]:
        """What it is a run of, beside what happens."""
        return [f'device {self.device}',
                f"memory {self.backing or 'as QEMU makes it'}",
                f'{self.vcpus} vCPUs', f'processor {self.processor}',
                *(['preempt'] if self.mode.preempt else ['no preempt']),
                *(name for name in ('tls', 'oob', 'blocktime', 'oracle')
                  if getattr(self, name)),
                *(['packets lost'] if self.loss else []),
                f'host {self.host}']

    def happens(self) -> List[str]:
        """Faults, and how the link breaks."""
        happens = [fault.name for fault in self.faults]
        if not self.point:
            return happens or ['nothing']
        kind = 'cut'
        kind += ', reset' if self.point.reset else ''
        kind += ', silent' if self.point.silent else ''
        kind += ', and again' if self.point.again else ''
        return [kind, *happens]

    def __str__(self) -> str:
        words = [self.device, self.backing or '', f'{self.vcpus} vCPUs',
                 self.processor, '' if self.mode.preempt else 'no-preempt',
                 *(name for name in ('tls', 'oob', 'blocktime', 'oracle')
                   if getattr(self, name)), self.host,
                 f'rest {self.rest // MB}M', f'{self.bandwidth // MB}M/s',
                 f'{self.delay * 1000:.0f} ms' if self.delay else '',
                 f'{self.loss} % lost' if self.loss else '',
                 f'cut: {self.where}'
                 f"{' (reset)' if self.point.reset else ''}"
                 f"{' (silent)' if self.point.silent else ''}"
                 if self.point else '',
                 *(f'{fault.name} after {fault.after:.2f} s for '
                   f'{fault.length:.2f} s' for fault in self.faults)]
        return '; '.join(filter(None, words))


def _weighted(rng: random.Random, usual: _T, others: Sequence[_T]) -> _T:
    """The usual one half of the time."""
    return usual if rng.random() < 0.5 else rng.choice(others)


def _point(rng: random.Random, seed: int,
           number: int) -> Tuple[str, Optional[Point]]:
    """Where the link breaks: where somebody thought of, or anywhere."""
    point = drawn(seed, number)
    where = point.what
    if rng.random() < 0.3:
        where = rng.choice(sorted(POINTS))
        point = POINTS[where]
    if point.again or rng.random() < 0.7:
        return where, point
    again = rng.choice(['bitmap', 'resumed'])
    return f'{where}, again in {again}', point._replace(
        again=at(again, rng.random()))


def draw(seed: int, number: int) -> Plan:
    """
    The same for the same two numbers.  Several runs after each other are of the
    same guest.
    """
    rng = random.Random(f'campaign/{seed}/guest {number // SAME_GUEST}')
    # A disk is where one sees that a write got lost.
    device = _weighted(rng, 'virtio-blk', DEVICE_NAMES)
    backing = _weighted(rng, None, sorted(fitting(MEMORY)))
    vcpus = _weighted(rng, 1, [2, 3, 4])
    processor = _weighted(rng, 'kvm', sorted(PROCESSORS))
    oob = rng.random() < 0.3

    rng = random.Random(f'campaign/{seed}/{number}')
    tls = rng.random() < 0.15
    # What is encrypted can't be cut at a place of which one knows what it is.
    cut = rng.random() < 0.6 and not tls
    where, point = _point(rng, seed, number) if cut else ('', None)
    faults = [Timed(rng.choice(sorted(FAULTS)), rng.uniform(0, 3),
                    rng.uniform(0.05, 1.5))
              for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    return Plan(
        seed, number, device, backing, vcpus, processor,
        mode=Mode(KVM_USERFAULT, rng.random() < 0.7), tls=tls, oob=oob,
        blocktime=rng.random() < 0.3, oracle=rng.random() < 0.5,
        rest=rng.choice([24, 48, 96, 160]) * MB,
        bandwidth=rng.choice([4, 8, 8, 16, 64]) * MB,
        delay=rng.choice([0, 0, 0, 0.002, 0.02]),
        loss=rng.choice([0, 0, 0, 0, 0.3, 2]),
        host=_weighted(rng, 'quiet', sorted(HOSTS)), where=where, point=point,
        faults=sorted(faults, key=lambda fault: fault.after))
