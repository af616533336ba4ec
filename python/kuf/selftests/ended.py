# SPDX-License-Identifier: GPL-2.0-or-later
"""
How a test ended.
"""

import re
from typing import NamedTuple


KSFT_SKIP = 4
# So many characters of what a test says are kept, its last ones.
OUTPUT = 4000


class Ended(NamedTuple):
    """How a test ended."""
    result: str
    seconds: float
    output: str
    status: int = 0
    complaint: str = ''
    # What this depends on, if that is asked, as one word.
    inputs: str = ''


def verdict(ended: Ended) -> str:
    """How a test ended, in words that are the same for the same end."""
    why = ''
    if ended.result == 'skip':
        reason = re.search(r'# SKIP -? *(.*)', ended.output)
        why = reason[1] if reason else 'no reason'
    elif ended.result == 'fail':
        where = re.search(r'Test Assertion Failure ====\n *(.*)', ended.output)
        why = where[1] if where else f'status {ended.status}'
    elif ended.result == 'complaint':
        # Without times, addresses and the like.
        why = ended.complaint.partition('; its log is')[0]
        why = re.sub(r'\[ *[0-9.]+\] ', '', why)
        why = re.sub(r'\b(0x[0-9a-f]+|[0-9]+)\b', 'N', why)
    return f'{ended.result}: {why}' if why else ended.result
