# SPDX-License-Identifier: GPL-2.0-or-later
"""
What can happen to the two sides while memory is missing.
"""

from pathlib import Path
import signal
import time
from typing import Any, Callable, Dict

from kuf.campaign.freeze import frozen
from kuf.campaign.limits import limited
from kuf.campaign.pages import PAGE, frames, page_out
from kuf.devices.link_cuts import ANSWER, LinkCut
from kuf.guest.machine import GuestError
from kuf.guest.monitor import Deaf, Monitor
from kuf.guest.worker import Worker
from kuf.process import threads
from kuf.tap import comment


COMPACT = Path('/proc/sys/vm/compact_memory')
OFFLINE = Path('/sys/devices/system/memory/soft_offline_page')
# So many at a time: the host does not use them again.
REPLACED = 16

# The device that is added.
PLUGGED = 'plugged'

# What the destination may allocate, in megabytes.
LIMIT = 4

# What is answered whoever waits, and what the main loop has to run.
ALWAYS = ['query-migrate', 'query-status']
MAIN_LOOP = ['query-cpus-fast', 'query-memory-size-summary', 'query-block']

# What happens to a migration, and for how many seconds.
Happen = Callable[[LinkCut, float], None]


def _stop_process(vm: Worker, seconds: float) -> None:
    """All of it."""
    vm.signal(signal.SIGSTOP)
    time.sleep(seconds)
    vm.signal(signal.SIGCONT)


def _freeze(vm: Worker, name: str, seconds: float) -> None:
    """One of its threads, if there is one of that name."""
    for thread in threads(vm.get_pid() or 0, name)[:1]:
        with frozen(thread):
            time.sleep(seconds)


def _frozen(side: str, name: str) -> Happen:
    return lambda case, seconds: _freeze(getattr(case, side), name, seconds)


def _main_loop_answers(case: LinkCut) -> bool:
    """
    Does no main loop wait for memory longer than that takes to come?  While the
    link is broken only commands that do without it are answered.
    """
    return case.recoveries >= case.breaks


def _running(case: LinkCut) -> Worker:
    """Where the guest is."""
    monitor = case.destination.monitor(case.oob)
    status = monitor.ask('query-status', ANSWER).value['status']
    return case.destination if status == 'running' else case.source


def _stop_guest(case: LinkCut, seconds: float) -> None:
    """By the monitor, if it runs at the destination."""
    if not _main_loop_answers(case) or _running(case) is case.source:
        return
    monitor = case.destination.monitor(case.oob)
    monitor.ask('stop', ANSWER)
    time.sleep(seconds)
    monitor.ask('cont', ANSWER)


def _done(monitor: Monitor, command: str, **arguments: Any) -> bool:
    """Whether a side has done that.  It may refuse, but must answer."""
    try:
        monitor.ask(command, ANSWER, **arguments)
    except Deaf:
        raise
    except GuestError as exc:
        comment(str(exc))
        return False
    return True


def _plug(case: LinkCut, _seconds: float) -> None:
    """A device; a side that migrates does not take it."""
    if _main_loop_answers(case):
        _done(_running(case).monitor(case.oob), 'device_add',
              driver='virtio-rng-pci', id=PLUGGED, disable_legacy='on')


def _pause(case: LinkCut, _seconds: float) -> None:
    """The migration, on a side that is in postcopy."""
    monitor = case.source.monitor(case.oob)
    status = monitor.ask('query-migrate', ANSWER).value.get('status')
    if status != 'postcopy-active':
        return
    # It may be over by now.
    if _done(monitor, 'migrate-pause'):
        case.breaks += 1


def _ask(case: LinkCut, seconds: float) -> None:
    """Everything that management asks, all the time."""
    commands = [*ALWAYS, *(MAIN_LOOP if _main_loop_answers(case) else [])]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for vm in case.vms:
            for command in commands:
                vm.monitor(case.oob).ask(command, ANSWER)


def _kill_source(case: LinkCut, _seconds: float) -> None:
    """As soon as the destination has all."""
    case.kill_source = True


def _hold(case: LinkCut, seconds: float) -> None:
    """Nothing comes through, and then all does."""
    relay = case.relay
    if relay and not relay.stopped.is_set():
        relay.hold()
        time.sleep(seconds)
        relay.release()


def _compact(_case: LinkCut, _seconds: float) -> None:
    COMPACT.write_text('1', encoding='ascii')


def _page_out(case: LinkCut, seconds: float) -> None:
    """All of the destination's memory, bitmaps too, again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and case.destination.is_running():
        page_out(case.destination.get_pid() or 0)
        time.sleep(0.05)


def _limit(case: LinkCut, seconds: float) -> None:
    """Of what the destination allocates."""
    with limited(case.destination.get_pid() or 0, LIMIT):
        time.sleep(seconds)


def _replace(case: LinkCut, _seconds: float) -> None:
    """Other pages have the same contents then."""
    if not OFFLINE.exists():
        comment(f'the host has no {OFFLINE}')
        return
    for frame in frames(case.destination.get_pid() or 0, REPLACED):
        try:
            OFFLINE.write_text(f'{frame * PAGE:#x}', encoding='ascii')
        except OSError:
            pass  # the host can't do without it now


# By the names of kuf.campaign.kinds.
FAULTS: Dict[str, Happen] = {
    'source stopped': lambda case, seconds: _stop_process(case.source, seconds),
    'destination stopped':
        lambda case, seconds: _stop_process(case.destination, seconds),
    'listen thread stands': _frozen('destination', 'mig/dst/listen'),
    'preempt thread stands': _frozen('destination', 'mig/dst/preempt'),
    'vCPU stands': _frozen('destination', 'CPU 0'),
    'main loop stands': _frozen('destination', 'qemu-system'),
    'return path stands': _frozen('source', 'mig/src/return'),
    'sender stands': _frozen('source', 'mig/src/main'),
    'source killed': _kill_source,
    'guest stopped': _stop_guest,
    'plugged': _plug,
    'paused': _pause,
    'asked': _ask,
    'link held': _hold,
    'memory compacted': _compact,
    'memory paged out': _page_out,
    'memory limited': _limit,
    'memory replaced': _replace,
}
