# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is measured of a migration: each figure, what it means, and how it comes
about.  The demonstration's page and the documents say it in these words.
"""

from typing import List, NamedTuple, Sequence


class Definition(NamedTuple):
    """A figure, or some that belong together."""
    name: str
    # What it means.  Units in braces are those of the host's clock.
    what: str
    # How it is measured, in Markdown.
    how: str
    # What report.json has of it.
    fields: Sequence[str]


DEFINITIONS: List[Definition] = [
    Definition(
        'downtime',
        'At the switch-over the guest stops at the source and starts on the '
        'destination, although most of what it has written lately has not '
        'arrived. Downtime is the time in between, in which it runs nowhere.',
        "From the source's `STOP` event to the destination's `RESUME`.",
        ['downtime_ms']),
    Definition(
        'postcopy duration',
        "From the guest's start on the destination until all memory has "
        'arrived. All that time a page may be missing; whoever touches it '
        'waits until it has been requested, sent and placed.',
        "From `RESUME` to the destination's `MIGRATION completed`.",
        ['postcopy_ms']),
    Definition(
        'guest time lost',
        'The work that the guest has not done, from the switch-over until it '
        'is back at 95 % of its rate before the migration, as the time in '
        'which it did so much before. Downtime and all waits are in it, and '
        'whatever else slows it down.',
        'From `rate`; back is when the mean of the second that follows is '
        'so high. A guest that is not back before all its memory is '
        'verified has lost what is missing by then.',
        ['marks', 'rate']),
    Definition(
        'requests',
        'Pages that the destination has asked for.',
        "The source's `postcopy-requests`.",
        ['requests']),
    Definition(
        'vCPU faults, waits of devices',
        'How often a vCPU, or QEMU for a device, had to wait for a page. QEMU '
        'does not count them with userfaultfd: "-".',
        "The destination's `query-migrate`, `postcopy-fault`.",
        ['vcpu_faults', 'ram_waits']),
    Definition(
        'waited',
        'How long that was, all waits together: of vCPUs; of QEMU for '
        'devices; and before it loads the devices, for pages that they are '
        'loaded with, which is a part of downtime. vCPUs wait side by side.',
        'The same.',
        ['waits_ms']),
    Definition(
        'latency',
        "How long the guest's own first accesses took, by its clock, to the "
        'pages that were missing at the switch-over. Less than 32 {us} is no '
        'wait: the page had arrived. Of those that waited, half took less than '
        "what the table of all runs says behind 'accesses that waited'.",
        'The guest times its first access to each page. The slowest ones '
        'count, as many as pages were missing, in each mode: an emulated host '
        'has other reasons to be slow. Other threads that run meanwhile are '
        'in it.',
        ['latency', 'stalls']),
    Definition(
        'system calls a page',
        'Those of the placing threads, which receive pages, place them and '
        'serve faults, for each page that arrived after the switch-over.',
        'A histogram trigger on `raw_syscalls:sys_enter` counts them in the '
        'kernel, by thread and number; no thread is stopped for it. All of '
        "the placing threads' life counts.",
        ['syscalls', 'syscalls_per_page']),
    Definition(
        'userfaultfd calls',
        'Attempts of the destination to get a userfaultfd, in all of its '
        'life.',
        "The kernel's tracer notes each `userfaultfd()`, and each "
        '`/dev/userfaultfd` that is opened, by a probe of `do_filp_open()`; no '
        'thread is stopped for it.',
        ['userfaultfd_calls']),
    Definition(
        'context switches a page',
        'Of all threads of the destination, during postcopy, for each page '
        'that arrived after the switch-over.',
        'From `/proc`.',
        ['context_switches']),
    Definition(
        'guest rate',
        'Pages that the guest checks, and most of which it writes. The mean '
        'during postcopy, and what that is of the rate before the migration.',
        "By the guest's own clock, which stands still while it is stopped; "
        'the mean is by time.',
        ['rate']),
    Definition(
        'memory in huge pages',
        "What the host maps of the guest's memory by huge pages when all "
        'memory has arrived.',
        '`/proc/PID/smaps_rollup` of the destination; `huge_before_kb` is of '
        "the source. That was the destination of the mode before, so that what "
        'one of them has is no measure of the other.',
        ['huge_before_kb', 'huge_after_kb']),
    Definition(
        'memory verified',
        "Pages of the guest's working set. When all memory has arrived the "
        'guest checks each of them: number, writer, count of writes and '
        'checksum.',
        'By the guest; FAILED if any round of the mode failed.',
        ['verified_pages']),
]
