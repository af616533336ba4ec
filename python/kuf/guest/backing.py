# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the guest's memory is made of in the host.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
)

from kuf.cli import Failure
from kuf.host import settings


THP = Path('/sys/kernel/mm/transparent_hugepage')
HUGETLB = Path('/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages')


# The object is called as the memory of a PC is that QEMU makes by itself.
RAM = 'pc.ram'


class Backing(NamedTuple):
    """QEMU's backend, and what the host has to be told."""
    backend: str
    settings: Dict[Path, str]


# In settings, {pages} is the number of 2M pages that both sides need.
BACKINGS = {
    # QEMU asks for huge pages, and does not get any.
    'anonymous': Backing('memory-backend-ram', {THP / 'enabled': 'never'}),
    'thp': Backing('memory-backend-ram', {THP / 'enabled': 'madvise'}),
    'shmem': Backing('memory-backend-memfd,share=on',
                     {THP / 'shmem_enabled': 'never'}),
    'hugetlb': Backing('memory-backend-memfd,share=on,hugetlb=on,'
                       'hugetlbsize=2M', {HUGETLB: '{pages}'}),
}


def backing_args(name: str, megabytes: int) -> List[str]:
    """QEMU's arguments."""
    return ['-m', str(megabytes), '-object',
            f'{BACKINGS[name].backend},id={RAM},size={megabytes}M']


def huge_blocks(name: Optional[str]) -> List[str]:
    """Blocks of RAM whose pages are huge to QEMU, too."""
    return [RAM] if name and HUGETLB in BACKINGS[name].settings else []


def huge_pages(megabytes: int) -> str:
    """So many as both sides of such a guest need, and some."""
    return str(2 * (megabytes // 2) + 8)


def check_huge_pages(wanted: str) -> None:
    """The host has them."""
    if settings.read(HUGETLB) != wanted:
        raise Failure(f'the host has not got {wanted} huge pages of 2M; '
                      'give it more memory')


@contextmanager
def prepared(name: str, megabytes: int) -> Iterator[None]:
    """The host's settings while there are guests with this memory."""
    pages = huge_pages(megabytes)
    wanted = {path: value.format(pages=pages)
              for path, value in BACKINGS[name].settings.items()}
    with settings.changed(wanted):
        if HUGETLB in wanted:
            check_huge_pages(pages)
        yield
