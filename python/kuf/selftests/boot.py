# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests in hosts: as many of those as it takes.
"""

import json
import re
import subprocess
import tempfile
import threading
from typing import Iterator, List, Optional

from kuf.cli import Failure
from kuf.host import status
from kuf.selftests.cases import Case
from kuf.selftests.ended import OUTPUT, Ended
from kuf.selftests.target import Target


# Seconds for what has no time-out of its own: to boot, to end a test.
PATIENCE = 300


def last_error(text: str) -> str:
    """What host/run said last."""
    errors: List[str] = re.findall(r'error: (.*)', text)
    return errors[-1] if errors else text.strip()[-OUTPUT:]


class Boot:
    """One host, in which some tests run."""

    def __init__(self, target: Target, cases: List[Case]):
        self.target = target
        self.cases = cases
        self.job = {'folder': str(target.folder), 'cases': [
            case._replace(timeout=target.timeout(case)) for case in cases]}
        self.expired = False
        self.running: Optional[Case] = None

    def results(self) -> Iterator[Ended]:
        """As they come; one for each test that was started, in order."""
        with tempfile.TemporaryFile('w+', errors='replace') as stderr, \
             subprocess.Popen(self.target.command(self.cases),
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=stderr,
                              text=True) as process:
            assert process.stdin
            json.dump(self.job, process.stdin)
            process.stdin.close()
            # The end of the host may say something about the last one.
            last: Optional[Ended] = None
            try:
                for ended in self.follow(process):
                    if last:
                        yield last
                    last = ended
            finally:
                process.terminate()
            code = process.wait()
            stderr.seek(0)
            said = stderr.read()
        if self.running:
            if last:
                yield last
            last = Ended('fail', 0, '', code)
        if self.expired and not last:
            raise Failure(f'the host did not start a test in {PATIENCE} s; '
                          'this machine may have too much else to do')
        if self.expired and last:
            last = last._replace(result='timeout')
        elif code == status.FAILED and last:
            last = last._replace(
                result='complaint', output=last.output + said[-OUTPUT:],
                complaint=last.complaint or last_error(said))
        elif code != 0:
            raise Failure(last_error(said))
        if last:
            yield last

    def follow(self, process: 'subprocess.Popen[str]') -> Iterator[Ended]:
        """What the host tells, as long as it does so in time."""
        assert process.stdout
        watchdog = self.watch(process, 0)
        for line in process.stdout:
            watchdog.cancel()
            message = json.loads(line)
            if 'starts' in message:
                self.running = Case(*message['starts'])
                watchdog = self.watch(process, self.running.timeout)
                continue
            self.running = None
            watchdog = self.watch(process, 0)
            yield Ended(**message)
        watchdog.cancel()

    def watch(self, process: 'subprocess.Popen[str]',
              timeout: float) -> threading.Timer:
        """Give the host up if it does not say anything for so long."""
        def expire() -> None:
            self.expired = True
            process.terminate()
        watchdog = threading.Timer(timeout + PATIENCE, expire)
        watchdog.daemon = True
        watchdog.start()
        return watchdog


def run_cases(target: Target, cases: List[Case]) -> Iterator[Ended]:
    """Run all, in as many hosts as that takes."""
    done = 0
    while done < len(cases):
        for ended in Boot(target, cases[done:]).results():
            yield ended
            done += 1
