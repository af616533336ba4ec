# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU for AddressSanitizer: build/qemu-asan/qemu-system-x86_64

What has to do with migration is compiled again, with the commands of QEMU's own
build; all else is that of build/qemu.  Accesses are checked in the former only,
but each allocation of the heap, and each copy by the C library, in all of QEMU.
With --enable-asan QEMU would build ten times as many files, and not find more
in a stream: the code that reads it is all here.
"""

import re
from typing import List, Optional

from kuf.build import relink
from kuf.build.project import Project
from kuf.build.sanitizers import Sanitizer, compile_command, output_of


FOLDER = 'qemu-asan'

# Objects of QEMU's build; stubs are for programs that have not the real thing.
INSTRUMENTED = re.compile(
    r'^lib[^/]*\.p/(?!.*stub)(?:accel_kvm|hw_virtio_virtio|io_|migration_|'
    r'monitor_(?:monitor|qmp)|'
    r'system_(?:cpus|memory|physmem|ram-|runstate|shutdown|userfault)|'
    r'util_(?:async|bitmap|coroutine|hbitmap|iov|qemu-coroutine|'
    r'qemu-thread|rcu|userfaultfd|yank))')

# With it, coroutines tell AddressSanitizer about their stacks.
ADDRESS = Sanitizer(FOLDER, '-fsanitize=address')


def _instrument(words: List[str]) -> Optional[List[str]]:
    if not INSTRUMENTED.match(output_of(words)):
        return None
    return compile_command(words, ADDRESS, f'../{FOLDER}')


def build(project: Project) -> None:
    """Build it."""
    relink.build(project, FOLDER, 'for AddressSanitizer', _instrument,
                 ADDRESS.flags)
