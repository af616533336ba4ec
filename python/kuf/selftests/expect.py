# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is expected of tests: to pass, or to end as they did before.
"""

from typing import Dict, List, Set

from kuf.build.stamp import checksum
from kuf.host.kernels import host_kernel
from kuf.selftests.boot import run_cases
from kuf.selftests.cases import Case
from kuf.selftests.ended import Ended, verdict
from kuf.selftests.record import (
    Tap,
    read_record,
    record_of,
    write_record,
)
from kuf.selftests.target import Target


def have_to_pass(target: Target, cases: List[Case]) -> bool:
    """Run tests of which none may fail, nor be skipped without need."""
    tap = Tap(len(cases))
    results = {}
    for case, ended in zip(cases, run_cases(target, cases)):
        results[case] = ended
        tap.line(ended.result == 'pass' or target.lacks(ended), case, ended,
                 f'{verdict(ended)}, {ended.seconds:g} s')
    write_record(record_of(target, 'pass'), results)
    return not tap.failed


def reference(target: Target, cases: List[Case]) -> Dict[Case, Ended]:
    """The results on the base kernel; known ones as long as they hold."""
    emulator = target.emulation
    kernel = host_kernel(target.kernel, emulator.architecture)
    host = [*target.command(), checksum(emulator.binary),
            checksum(kernel.image), checksum(kernel.initramfs)]
    inputs = {case: checksum(repr((host, checksum(target.folder / case.name))))
              for case in cases}
    path = record_of(target, 'same')
    known = {case: ended for case, ended in read_record(path).items()
             if ended.inputs == inputs.get(case, ended.inputs)}
    missing = [case for case in cases if case not in known]
    for case, ended in zip(missing, run_cases(target, missing)):
        known[case] = ended._replace(inputs=inputs[case])
        print(f'# without the series: {case}: {verdict(ended)}', flush=True)
    write_record(path, known)
    return known


def repeat(target: Target, case: Case, first: Ended) -> Set[str]:
    """All the ways in which a test ends."""
    return {verdict(first), *map(verdict, run_cases(target, [case] * 3))}


def have_to_agree(base: Target, patched: Target, cases: List[Case]) -> bool:
    """Run tests that have to end as they do without the series."""
    tap = Tap(len(cases))
    expected = reference(base, cases)
    results, differ = {}, []
    for case, ended in zip(cases, run_cases(patched, cases)):
        results[case] = ended
        before = expected[case]
        if verdict(ended) != verdict(before):
            differ.append(case)
            continue
        tap.line(True, case, ended, f'{verdict(ended)}, {ended.seconds:g} s; '
                 f'without the series {before.seconds:g} s')
    # Some are not sure to end in one way, with or without the series.
    for case in differ:
        ways = repeat(patched, case, results[case])
        ways_before = repeat(base, case, expected[case])
        tap.line(ways <= ways_before, case, results[case],
                 f"{' or '.join(sorted(ways))}; without the series "
                 f"{' or '.join(sorted(ways_before))}")
    write_record(record_of(patched, 'same'), results)
    return not tap.failed
