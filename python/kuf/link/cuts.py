# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where a link can be cut, from the switch to postcopy to its end.
"""

import random
from typing import (
    Callable,
    Dict,
    NamedTuple,
    Optional,
)

from kuf.link.relay import Relay, Watch
from kuf.link.stream import PONG_LOADED, Channel, Mark


MB = 1 << 20
# The source gives the guest up, see migration/postcopy-commit.c.
PING_COMMIT = 0x4b554602
# So many pages are asked for after that, if the guest runs.
RUNS = 5
# As a place in a mark: behind it.
END = None

Test = Callable[[Relay, Mark], bool]


class Point(NamedTuple):
    """A point, and how the link is cut there."""
    what: str
    where: Watch
    # No page comes through before that: the destination is in LISTENING.
    listening: bool = False
    # Connections are reset, not closed.
    reset: bool = False
    # Nothing comes through any more, and nobody is told.
    silent: bool = False
    # The connection that is cut first, if not both at once.
    first: Optional[Channel] = None
    # And then, in the recovery.
    again: Optional[Watch] = None
    # Each migration comes to it; of those that are drawn some may not.
    sure: bool = True
    # Until then, hardly a page comes that was not asked for.
    asked: bool = False
    # With userfaultfd, the VM may be lost there.
    weak: bool = False
    # With userfaultfd, there is no such point.
    commits: bool = False


def at(what: str, place: 'int | float | None',
       test: Test = lambda relay, mark: True) -> Watch:
    """
    A place in the first mark that passes a test: so many bytes from its start
    or, if negative, its end; a fraction of it; or END.
    """
    def where(relay: Relay, mark: Mark) -> Optional[int]:
        if mark.what != what or not test(relay, mark):
            return None
        if place is END:
            return mark.end
        if isinstance(place, float):
            return mark.start + int(place * (mark.end - mark.start))
        return place + (mark.end if place < 0 else mark.start)
    return where


def request(number: int) -> Watch:
    """A request for a page."""
    return at('request', 0, lambda relay, _mark:
              relay.memory.requests >= number)


def fault(number: int) -> Watch:
    """A request for a page after devices were loaded."""
    return at('request', 0, lambda relay, _mark:
              relay.memory.faults >= number)


def eager_page(number: int) -> Watch:
    """A page of memory that belongs to a device, in postcopy."""
    return at('page', 0.5, lambda relay, mark:
              relay.memory.eager >= number and mark.block != 'pc.ram')


def missing(fraction: float) -> Watch:
    """In a page in postcopy: so many of those at its start are missing."""
    return at('page', 0.5, lambda relay, _mark:
              relay.memory.faults >= RUNS and
              relay.memory.missing <= fraction * relay.memory.missed)


# While devices are loaded, only they ask for more than the first megabyte.
DEVICE_LOAD = at('request', 0, lambda relay, mark:
                 relay.memory.postcopy and mark.block == 'pc.ram' and
                 mark.value >= MB and not relay.memory.loaded)
LOADED = at('pong', 0, lambda _relay, mark: mark.value == PONG_LOADED)
COMMIT = at('ping', 0, lambda _relay, mark: mark.value == PING_COMMIT)
COMMITTED = at('ping', END,
               lambda _relay, mark: mark.value == PING_COMMIT)

GROUPS: Dict[str, Dict[str, Point]] = {
    # The source has stopped the guest; the destination has not begun.
    'package': {
        'discard': Point('in a list of old pages', at('discard', 0.5),
                         weak=True),
        'package-header': Point("in the package's header", at('package', 5),
                                weak=True),
        'package-start': Point('in its first command', at('package', 12),
                               weak=True),
        'package-middle': Point('in its middle', at('package', 0.5),
                                weak=True),
        'package-middle-reset': Point('the same', at('package', 0.5),
                                      reset=True, weak=True),
        'package-middle-silent': Point('the same', at('package', 0.5),
                                       silent=True, weak=True),
        'package-last': Point('before its last byte', at('package', -1),
                              weak=True),
    },
    # It has the package.
    'listening': {
        'package-end': Point('behind the package', at('package', END),
                             weak=True),
        'listening-asked': Point('pages have been asked for, and none has '
                                 'come', request(1), listening=True,
                                 weak=True),
        'listening-reset': Point('the same, a hundred pages later',
                                 request(100), listening=True, reset=True,
                                 weak=True),
        'listening-main-first': Point('the same', request(100),
                                      listening=True, first=Channel.MAIN,
                                      weak=True),
        'listening-preempt-first': Point('the same', request(100),
                                         listening=True,
                                         first=Channel.PREEMPT, weak=True),
        'listening-silent': Point('the same', request(100), listening=True,
                                  silent=True, weak=True),
        'listening-again': Point('the same, and again in the recovery',
                                 request(100), listening=True,
                                 again=at('bitmap', 0.5), weak=True),
        'eager-page': Point('in a page that must come before devices are '
                            'loaded', eager_page(300), weak=True),
    },
    'load': {
        'device-load': Point('a device asks for a page while it is loaded',
                             DEVICE_LOAD, weak=True),
        'device-load-silent': Point('the same', DEVICE_LOAD, silent=True,
                                    weak=True),
        'device-load-preempt-first': Point('the same', DEVICE_LOAD,
                                           first=Channel.PREEMPT, weak=True),
        'devices-loaded': Point('devices are loaded, and the source does not '
                                'know it', LOADED, weak=True),
        'commit': Point('the destination does not know that the guest is its '
                        'own', COMMIT, commits=True),
        'commit-silent': Point('the same', COMMIT, silent=True, commits=True),
        'committed': Point('it knows', COMMITTED, commits=True),
        'run': Point('the first page is asked for after that', fault(1),
                     weak=True),
    },
    'running': {
        'first-faults': Point('the twentieth page is asked for after devices '
                              'were loaded', fault(20), asked=True),
        'early': Point('a tenth of what was missing has come', missing(0.9)),
        'early-main-first': Point('the same', missing(0.9),
                                  first=Channel.MAIN),
        'early-preempt-first': Point('the same', missing(0.9),
                                     first=Channel.PREEMPT),
        'middle': Point('a half', missing(0.5)),
        'middle-reset': Point('the same', missing(0.5), reset=True),
        'middle-silent': Point('the same', missing(0.5), silent=True),
        'late': Point('all but a twentieth', missing(0.05)),
        'recovery-bitmap': Point('a half, and again when the destination '
                                 'tells what it has', missing(0.5),
                                 again=at('bitmap', 0.5)),
        'recovery-resumed': Point('a half, and again before the source goes '
                                  'on', missing(0.5), again=at('resumed', 0)),
    },
    'end': {
        'last-page': Point('in the last page', missing(0), weak=True),
        'all-pages': Point('all pages have come, and the end has not',
                           at('end', 0), weak=True),
        'eof': Point("in the stream's last byte", at('eof', 0), weak=True),
        'handshake': Point('the source is not told that all is well',
                           at('shut', 0), weak=True),
        'handshake-reset': Point('in telling it', at('shut', 3), reset=True,
                                 weak=True),
    },
}
POINTS = {name: point for group in GROUPS.values()
          for name, point in group.items()}


def drawn(seed: int, number: int) -> Point:
    """A point that nobody has chosen."""
    rng = random.Random(f'{seed}/{number}')
    silent = rng.random() < 0.3
    reset = not silent and rng.random() < 0.3
    first = rng.choice([None, None, Channel.MAIN, Channel.PREEMPT])
    fraction, count = rng.random(), int(2 ** (rng.random() * 9))
    kind = rng.choice(['package', 'listening', 'eager', 'fault', 'missing'])
    what, where = {
        'package': (f'{fraction:.4f} of the package',
                    at('package', fraction)),
        'listening': (f'LISTENING, {count} requests', request(count)),
        'eager': (f'{count} pages of devices', eager_page(count)),
        'fault': (f'{count} requests after device load', fault(count)),
        'missing': (f'{fraction:.4f} missing', missing(fraction)),
    }[kind]
    return Point(what, where, listening=kind == 'listening', reset=reset,
                 silent=silent, first=first, sure=False, asked=kind == 'fault',
                 weak=kind != 'missing')
