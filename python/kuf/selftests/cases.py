# SPDX-License-Identifier: GPL-2.0-or-later
"""
Which tests there are, and how they are run here.
"""

from pathlib import Path
import subprocess
from typing import Dict, List, NamedTuple

from kuf.cli import Failure
from kuf.paths import SOURCES


class Case(NamedTuple):
    """A test with its arguments."""
    name: str
    args: str = ''
    timeout: float = 300

    def __str__(self) -> str:
        return f'{self.name} {self.args}'.strip()


# What belongs to the series' own tests, though it has not changed them.  Those
# that it adds or changes are found in its commits.
NEIGHBOURS = [
    'guest_memfd_test',
    'pre_fault_memory_test',
    'x86_64/private_mem_conversions_test',
    'x86_64/private_mem_kvm_exits_test',
]

# The series' own that need arguments.
VARIANTS = {
    'demand_paging_test': [
        Case('demand_paging_test', args) for args in (
            '-b 16M',
            '-b 16M -k',
            '-b 16M -k -p -v 4',
            '-b 16M -k -o -v 4',
            '-b 16M -k -u MISSING',
        )],
    # A few rounds, always the same.
    'x86_64/userfault_fuzz_test': [
        Case('x86_64/userfault_fuzz_test', '-s 10 -r 1')],
}

# What a host has to be set to, by a test's arguments: files and what is written
# to them.
SETTINGS: Dict[str, Dict[Path, str]] = {
    '-m shmem': {
        Path('/sys/kernel/mm/transparent_hugepage/shmem_enabled'): 'always'},
    '-m shared_hugetlb': {Path('/proc/sys/vm/nr_hugepages'): '64'},
}

# Tests that the emulated host, one slow processor, is not for as they are.
TUNED = {
    # By default a gigabyte of guest memory, of which each page is touched.
    'demand_paging_test': [Case('demand_paging_test', '-b 64M')],
    'dirty_log_perf_test': [Case('dirty_log_perf_test', '-b 64M')],
    'kvm_page_table_test': [Case('kvm_page_table_test', '-b 64M')],
    'memslot_modification_stress_test': [
        Case('memslot_modification_stress_test', '-b 64M')],
    # 32 rounds of each way of logging; and the ring should fill some day.
    'dirty_log_test': [
        Case('dirty_log_test', '-i 3 -M dirty-log', 900),
        Case('dirty_log_test', '-i 3 -M clear-log', 900),
        Case('dirty_log_test', '-i 3 -M dirty-ring -c 1024')],
    # 32764 slots and 5 s for each part.  The last part is left out: guest and
    # host wait for each other in loops and want a processor each.
    'memslot_perf_test': [Case('memslot_perf_test', '-l 1 -s 512 -e 4')],
    # 512 times virtual machines with threads that spin: more than a quarter of
    # an hour here.  One minute tells whether the host complains.
    'hardware_disable_test': [Case('hardware_disable_test', timeout=60)],
}


def cases_of(text: str) -> List[Case]:
    """A test by its name, as it can be run here, or with arguments."""
    name, _, args = text.partition(' ')
    return [Case(name, args)] if args else TUNED.get(name, [Case(name)])


def tests_of(folder: Path) -> List[str]:
    """The names of the tests that were built there."""
    try:
        return (folder / 'tests').read_text('ascii').split()
    except OSError as exc:
        raise Failure(
            f'no selftests in {folder}; build them with: make') from exc


def check_names(folder: Path, names: List[str]) -> None:
    """A test that is not there is the caller's mistake."""
    for name in names:
        if not (folder / name.partition(' ')[0]).is_file():
            raise Failure(
                f"no test '{name}' in {folder}, where there are: "
                f"{' '.join(tests_of(folder))}")


def changed_tests(folder: Path, how: str) -> List[str]:
    """The tests that the series adds (how: A) or changes (M)."""
    where = 'tools/testing/selftests/kvm/'
    changed = subprocess.run(
        ['git', '-C', str(SOURCES / 'linux'), 'diff', '--name-only',
         f'--diff-filter={how}', 'base', '--', where],
        check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()
    return [name for name in tests_of(folder)
            if f'{where}{name}.c' in changed]


def series_cases(folder: Path) -> List[Case]:
    """The series' own tests, and those of what it touches."""
    names = dict.fromkeys(changed_tests(folder, 'AM') + NEIGHBOURS)
    return [case for name in names
            for case in VARIANTS.get(name, cases_of(name))]


def base_cases(folder: Path) -> List[Case]:
    """The tests that there are without the series, too."""
    added = changed_tests(folder, 'A')
    return [case for name in tests_of(folder) if name not in added
            for case in cases_of(name)]
