# SPDX-License-Identifier: GPL-2.0-or-later
"""
What runs in the host: one test after the other.
"""

import encodings.ascii  # pylint: disable=unused-import  # noqa: F401
import json
import os
import signal
import subprocess
import sys
import termios
import time
from typing import (
    Any,
    Dict,
    Iterator,
    Optional,
)

from kuf.host import settings
from kuf.host.complaints import (
    first_complaint,
    own_taint,
    taint_complaint,
)
from kuf.selftests.cases import SETTINGS, Case
from kuf.selftests.ended import KSFT_SKIP, OUTPUT, Ended


class Kernel:
    """What the kernel that we run on has complained of."""

    def __init__(self) -> None:
        self.kmsg = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)

    def messages(self) -> Iterator[str]:
        """The messages that are new."""
        while True:
            try:
                record = os.read(self.kmsg, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:  # some were overwritten
                continue
            text = record.decode(errors='replace')
            yield text.partition(';')[2].partition('\n')[0]

    def complaint(self) -> Optional[str]:
        """The first new message that is one, if any is."""
        for message in self.messages():
            if first_complaint(message) == message:
                return message
        return taint_complaint(own_taint())


def run_inside(folder: str, case: Case) -> Ended:
    """One test, and how it ended."""
    start = time.monotonic()
    with settings.changed(SETTINGS.get(case.args, {})), subprocess.Popen(
            [f'{folder}/{case.name}', *case.args.split()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=case.timeout)
            result = {0: 'pass', KSFT_SKIP: 'skip'}.get(process.returncode,
                                                        'fail')
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            result = 'timeout'
    return Ended(result, round(time.monotonic() - start, 1),
                 output.decode(errors='replace')[-OUTPUT:], process.returncode)


def tell(message: Dict[str, Any]) -> None:
    """A line to those outside, who have it even if the host now dies."""
    print(json.dumps(message), flush=True)
    if sys.stdout.isatty():  # a serial port
        termios.tcdrain(sys.stdout.fileno())


def run_job() -> None:
    """Run what comes on standard input, up to the first complaint."""
    kernel = Kernel()
    job = json.load(sys.stdin)
    for case in job['cases']:
        tell({'starts': case})
        ended = run_inside(job['folder'], Case(*case))
        complaint = kernel.complaint()
        if complaint:
            ended = ended._replace(result='complaint', complaint=complaint)
        tell(ended._asdict())
        if complaint:
            return
