# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the host does with memory while guests are migrated.
"""

from contextlib import contextmanager
from pathlib import Path
import subprocess
from typing import Dict, Iterator

from kuf.host import settings
from kuf.tap import comment


KSM = Path('/sys/kernel/mm/ksm')
THP = Path('/sys/kernel/mm/transparent_hugepage')
PROACTIVE = Path('/proc/sys/vm/compaction_proactiveness')
NUMA = Path('/proc/sys/kernel/numa_balancing')
SCAN = Path('/sys/kernel/debug/sched/numa_balancing')

# The host has two nodes, and does not move pages between them by itself.
APPEND = 'numa=fake=2 numa_balancing=disable'

# Where pages go that are paged out, in memory again.
SWAP = Path('/sys/block/zram0/disksize')
SWAP_SIZE = '1G'

HOSTS: Dict[str, Dict[Path, str]] = {
    'quiet': {},
    # Equal pages become one, all the time; QEMU marks its memory for that.
    'ksm': {KSM / 'run': '1', KSM / 'sleep_millisecs': '5',
            KSM / 'pages_to_scan': '1000'},
    # Small pages become huge ones, all the time.
    'khugepaged': {THP / 'enabled': 'always',
                   THP / 'khugepaged/scan_sleep_millisecs': '5',
                   THP / 'khugepaged/alloc_sleep_millisecs': '5'},
    # Pages are moved about, all the time.
    'compaction': {PROACTIVE: '100'},
    # Pages lose their mappings, to see who wants them, and move to where that
    # one runs, all the time.
    'numa': {NUMA: '1', SCAN / 'scan_delay_ms': '10',
             SCAN / 'scan_period_min_ms': '10',
             SCAN / 'scan_period_max_ms': '20'},
}


@contextmanager
def done(wanted: Dict[Path, str]) -> Iterator[None]:
    """A host does that, as far as its kernel can."""
    lacks = [path for path in wanted if not path.exists()]
    for path in lacks:
        comment(f'the host has no {path}')
    with settings.changed({path: value for path, value in wanted.items()
                           if path not in lacks}):
        yield


@contextmanager
def swap() -> Iterator[None]:
    """Memory can be paged out, if the host's kernel can do that."""
    if not SWAP.exists():
        comment('the host has no swap')
        yield
        return
    device = f'/dev/{SWAP.parent.name}'
    settings.write(SWAP, SWAP_SIZE)
    subprocess.run(['mkswap', device], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['swapon', device], check=True)
    yield
    subprocess.run(['swapoff', device], check=True)


@contextmanager
def lossy(percent: float) -> Iterator[None]:
    """Packets between the two sides are lost."""
    if not percent:
        yield
        return
    rule = ['dev', 'lo', 'root']
    subprocess.run(['tc', 'qdisc', 'add', *rule, 'netem', 'loss',
                    f'{percent}%'], check=True)
    yield
    subprocess.run(['tc', 'qdisc', 'del', *rule], check=True)
