# SPDX-License-Identifier: GPL-2.0-or-later
"""
What can happen in a campaign, in words; kuf.campaign.faults does it.
"""

from typing import Dict


KINDS: Dict[str, str] = {
    'source stopped': 'the process gets SIGSTOP and SIGCONT',
    'destination stopped': 'the process gets SIGSTOP and SIGCONT',
    'listen thread stands': 'it reads no pages',
    'preempt thread stands': 'it reads no pages that were asked for',
    'vCPU stands': 'the first one, wherever it is',
    'main loop stands': 'the thread of devices and monitors',
    'return path stands': 'the source reads no requests',
    'sender stands': 'the source sends no pages',
    'source killed': 'when the destination has all',
    'guest stopped': 'by the monitor, and continued',
    'plugged': 'a device, into the running guest',
    'paused': 'migrate-pause, then a recovery',
    'asked': 'both monitors, without a break',
    'link held': 'nothing comes through, then all does',
    'memory compacted': 'the host moves pages about',
    'memory paged out': "the host takes the destination's pages away, and "
                        'brings them back when they are wanted',
    'memory limited': 'a cgroup of the destination has a limit, and pages go '
                      'for others to come',
    'memory replaced': "some of the destination's pages, as of a module that "
                       'begins to fail',
}
