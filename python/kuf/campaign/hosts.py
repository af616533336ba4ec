# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the host does with memory while guests are migrated.
"""

from pathlib import Path
from typing import Dict


KSM = Path('/sys/kernel/mm/ksm')
THP = Path('/sys/kernel/mm/transparent_hugepage')
PROACTIVE = Path('/proc/sys/vm/compaction_proactiveness')

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
}
