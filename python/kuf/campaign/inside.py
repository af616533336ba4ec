# SPDX-License-Identifier: GPL-2.0-or-later
"""
What runs in the host: one migration after the other.
"""

import argparse
from contextlib import ExitStack
import json
from pathlib import Path
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
from kuf.devices.cases import attempt
from kuf.guest.backing import BACKINGS, prepared
from kuf.guest.echo import Echo
from kuf.guest.worker import MEMORY


# What a line begins with that is for those outside.
MARK = 'campaign: '


def tell(message: Dict[str, Any]) -> None:
    """A line to those outside, who have it even if the host now dies."""
    print(MARK + json.dumps(message), flush=True)


def run_one(plan: Plan, verbose: bool, qemu: Optional[Path]) -> bool:
    """One migration; whether it ended well."""
    tell({'starts': plan.number})
    start = time.monotonic()
    with ExitStack() as stack:
        wanted = dict(HOSTS[plan.host])
        if plan.backing:
            # What the memory is to be goes before what the host does to it.
            wanted = {**wanted, **{
                path: value for path, value in
                BACKINGS[plan.backing].settings.items() if path in wanted}}
        stack.enter_context(done(wanted))
        stack.enter_context(lossy(plan.loss))
        if plan.backing:
            stack.enter_context(prepared(plan.backing, MEMORY))
        job = Path(stack.enter_context(tempfile.TemporaryDirectory(
            prefix='guest-', ignore_cleanup_errors=True)))
        outcome = attempt(Drawn(plan, job, verbose, qemu), verbose)
    tell({'ended': plan.number, 'outcome': outcome,
          'seconds': round(time.monotonic() - start, 1)})
    return outcome is not None


def run_all(args: argparse.Namespace) -> None:
    """So many of them, as far as the time allows."""
    echo = Echo()
    began = time.monotonic()
    with swap():
        for number in range(args.first, args.first + args.runs):
            if args.time and time.monotonic() - began > args.time:
                break
            well = run_one(draw(args.seed, number), args.verbose, args.qemu)
            if args.fail_fast and not well:
                break
    echo.check()
