# SPDX-License-Identifier: GPL-2.0-or-later
"""
What runs in the host: one migration after the other.
"""

import argparse
from contextlib import ExitStack
import json
from pathlib import Path
import subprocess
import tempfile
import time
from typing import Any, Dict, Optional

from kuf.campaign.case import Drawn
from kuf.campaign.hosts import (
    HOSTS,
    done,
    lossy,
    swap,
)
from kuf.campaign.plan import Plan, draw
from kuf.cli import Failure
from kuf.devices.cases import attempt
from kuf.guest.backing import BACKINGS, prepared
from kuf.guest.echo import Echo
from kuf.guest.worker import MEMORY, Worker
from kuf.tap import comment


# What a line begins with that is for those outside.
MARK = 'campaign: '


def tell(message: Dict[str, Any]) -> None:
    """A line to those outside, who have it even if the host now dies."""
    print(MARK + json.dumps(message), flush=True)


class Guests:
    """One guest after the other, each of which is migrated several times."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        # What ends with the guest that runs, which is that of a plan.
        self.stack = ExitStack()
        self.folder = Path()
        self.plan: Optional[Plan] = None
        self.vm: Optional[Worker] = None

    def forget(self) -> None:
        """No guest runs, and nothing is left of one."""
        if self.vm:
            self.vm.shutdown(hard=True)
        self.vm = None
        if self.plan:
            check_nothing_left(self.folder)
        self.stack.close()

    def prepare(self, plan: Plan) -> None:
        """The one that runs is the plan's, or none does."""
        if self.vm and self.plan and self.plan.guest == plan.guest:
            return
        self.forget()
        if plan.backing:
            self.stack.enter_context(prepared(plan.backing, MEMORY))
        self.folder = Path(self.stack.enter_context(
            tempfile.TemporaryDirectory(prefix='guest-',
                                        ignore_cleanup_errors=True)))

    def migrate(self, plan: Plan) -> Optional[str]:
        """Once; how that ended, or None if it has failed."""
        job = self.folder / str(plan.number)
        job.mkdir()
        if self.vm:
            self.vm.become('source')
            comment('the guest is that of the run before')
        case = Drawn(plan, job, self.args.verbose, self.args.qemu, self.vm)
        self.plan, self.vm = plan, None
        outcome = attempt(case, self.args.verbose)
        self.vm = case.survivor
        return outcome


def check_nothing_left(folder: Path) -> None:
    """No QEMU has files there."""
    left = subprocess.run(['pgrep', '-f', str(folder)], check=False,
                          stdout=subprocess.PIPE, text=True).stdout.split()
    if left:
        raise Failure(f"QEMU is left: {' '.join(left)}")


def wanted(plan: Plan) -> Dict[Path, str]:
    """What the host does; what the guest's memory is to be goes before."""
    host = HOSTS[plan.host]
    if not plan.backing:
        return host
    return {**host, **{
        path: value for path, value in BACKINGS[plan.backing].settings.items()
        if path in host}}


def run_one(plan: Plan, guests: Guests) -> bool:
    """One migration; whether it ended well."""
    tell({'starts': plan.number})
    start = time.monotonic()
    guests.prepare(plan)
    with done(wanted(plan)), lossy(plan.loss):
        outcome = guests.migrate(plan)
    tell({'ended': plan.number, 'outcome': outcome,
          'seconds': round(time.monotonic() - start, 1)})
    return outcome is not None


def run_all(args: argparse.Namespace) -> None:
    """So many of them, as far as the time allows."""
    echo = Echo()
    began = time.monotonic()
    guests = Guests(args)
    with swap():
        for number in range(args.first, args.first + args.runs):
            if args.time and time.monotonic() - began > args.time:
                break
            well = run_one(draw(args.seed, number), guests)
            if args.fail_fast and not well:
                break
        guests.forget()
    echo.check()
