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


def pool(megabytes: int) -> Path:
    """How many huge pages of a size the host keeps for hugetlbfs."""
    return Path(f'/sys/kernel/mm/hugepages/hugepages-{megabytes << 10}kB',
                'nr_hugepages')


HUGETLB = pool(2)

# The object is called as the memory of a PC is that QEMU makes by itself.
RAM = 'pc.ram'


class Backing(NamedTuple):
    """QEMU's backend, and what the host has to be told."""
    backend: str
    settings: Dict[Path, str]
    # The size of its pages where QEMU has huge ones, too, in megabytes.
    huge: int = 0


# In settings, {pages} is the number of huge pages that both sides need.
BACKINGS = {
    # QEMU asks for huge pages, and does not get any.
    'anonymous': Backing('memory-backend-ram', {THP / 'enabled': 'never'}),
    'thp': Backing('memory-backend-ram', {THP / 'enabled': 'madvise'}),
    'shmem': Backing('memory-backend-memfd,share=on',
                     {THP / 'shmem_enabled': 'never'}),
    'hugetlb': Backing('memory-backend-memfd,share=on,hugetlb=on,'
                       'hugetlbsize=2M', {HUGETLB: '{pages}'}, 2),
    'hugetlb-1g': Backing('memory-backend-memfd,share=on,hugetlb=on,'
                          'hugetlbsize=1G', {pool(1024): '{pages}'}, 1024),
}


def fitting(megabytes: int) -> List[str]:
    """What a guest's memory of that size can be."""
    return [name for name, backing in BACKINGS.items()
            if not backing.huge or megabytes % backing.huge == 0]


def backing_args(name: str, megabytes: int) -> List[str]:
    """QEMU's arguments."""
    return ['-m', str(megabytes), '-object',
            f'{BACKINGS[name].backend},id={RAM},size={megabytes}M']


def huge_blocks(name: Optional[str]) -> List[str]:
    """Blocks of RAM whose pages are huge to QEMU, too."""
    return [RAM] if name and BACKINGS[name].huge else []


def huge_pages(megabytes: int, size: int = 2) -> str:
    """So many as both sides of such a guest need, and some of the small."""
    return str(2 * (megabytes // size) + 16 // size)


def check_huge_pages(wanted: str, size: int = 2) -> None:
    """The host has them."""
    if settings.read(pool(size)) != wanted:
        raise Failure(f'the host has not got {wanted} huge pages of {size}M; '
                      'give it more memory')


@contextmanager
def prepared(name: str, megabytes: int) -> Iterator[None]:
    """The host's settings while there are guests with this memory."""
    backing = BACKINGS[name]
    pages = huge_pages(megabytes, backing.huge) if backing.huge else ''
    with settings.changed({path: value.format(pages=pages)
                           for path, value in backing.settings.items()}):
        if pages:
            check_huge_pages(pages, backing.huge)
        yield
