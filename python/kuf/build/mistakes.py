# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU with a mistake in it, to see that tests notice: build/mistakes/NAME

Each is one that could be made: something is left out, or comes too early.
"""

from pathlib import Path
from typing import (
    Dict,
    List,
    NamedTuple,
    Optional,
)

from kuf.build import relink, stamp
from kuf.build.project import Project
from kuf.build.sanitizers import Sanitizer, compile_command
from kuf.cli import Failure


class Mistake(NamedTuple):
    """What is wrong; and the text of a file of QEMU's that is another one."""
    what: str
    source: str
    right: str
    wrong: str


# How a memslot gets its view.
SLOT_ADD = '''\
    if (!armed) {
        return;
    }
    rb ='''

MISTAKES: Dict[str, Mistake] = {
    'lost-wake': Mistake(
        'who begins to wait does not look whether the page has just come',
        'system/ram-wait.c', '''\
    if (!ram_wait_page_missing(w->rb, w->offset)) {
        qatomic_set(&bucket->nr, bucket->nr - 1);
        return false;
    }
    QTAILQ_INSERT_TAIL(&bucket->waiters, w, next);
''', '''\
    QTAILQ_INSERT_TAIL(&bucket->waiters, w, next);
'''),
    'early-bit': Mistake(
        "a page's bits are cleared before its contents are there",
        'migration/postcopy-kvm-userfault.c', '''\
    ret = write_page(rb, offset, from, pagesize);
''', '''\
    ramblock_recv_bitmap_set_offset(rb, offset);
    userfault_views_clear(rb, offset, pagesize);
    ret = write_page(rb, offset, from, pagesize);
'''),
    'no-bitmap': Mistake(
        'memslots have no bitmap',
        'accel/kvm/kvm-userfault.c', SLOT_ADD, '''\
    if (slot->ram) {
        return;
    }
    rb ='''),
    'missed-view': Mistake(
        'the memslots of system management mode have no bitmap',
        'accel/kvm/kvm-userfault.c', SLOT_ADD, '''\
    if (!armed || slot->as_id) {
        return;
    }
    rb ='''),
    'no-barrier': Mistake(
        "devices' reads, writes and mappings of memory do not wait for it",
        'system/physmem.c', '''\
        if (unlikely(qatomic_read(&ram_wait_active))) {
            return qemu_ram_ptr_wait(block, addr, len);
''', '''\
        if (0) {
            return qemu_ram_ptr_wait(block, addr, len);
'''),
}


def put_in(text: str, mistake: Mistake) -> str:
    """The file with the mistake."""
    if text.count(mistake.right) != 1:
        raise Failure(f"{mistake.source} does not have what is to be wrong "
                      f'there once: {mistake.right.strip()}')
    return text.replace(mistake.right, mistake.wrong)


def build(project: Project, name: str) -> Path:
    """Build QEMU with one of them; returns the program."""
    mistake = MISTAKES[name]
    tree = project.build / 'src/qemu'
    folder = f'mistakes/{name}'
    copy = project.build / folder / Path(mistake.source).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    stamp.write(copy, put_in((tree / mistake.source).read_text('utf-8'),
                             mistake))
    # What is beside the file is looked for there.
    how = Sanitizer(folder, f'-iquote {(tree / mistake.source).parent}')

    def change(words: List[str]) -> Optional[List[str]]:
        if not words[-1].endswith(f'/src/qemu/{mistake.source}'):
            return None
        return [*compile_command(words, how, f'../{folder}')[:-1], str(copy)]

    return relink.build(project, folder, f"with mistake '{name}'", change)
