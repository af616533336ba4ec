# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU for AddressSanitizer: build/qemu-asan/qemu-system-x86_64

What has to do with migration is compiled again, with the commands of QEMU's own
build; all else is that of build/qemu.  Accesses are checked in the former only,
but each allocation of the heap, and each copy by the C library, in all of QEMU.
With --enable-asan QEMU would build ten times as many files, and not find more
in a stream: the code that reads it is all here.
"""

import json
from pathlib import Path
import re
import subprocess
from typing import Iterator, List

from kuf.build import qemu, stamp
from kuf.build.compilers import environment
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.build.sanitizers import Sanitizer, compile_command, output_of


FOLDER = 'qemu-asan'
PROGRAM = 'qemu-system-x86_64'

# Objects of QEMU's build; stubs are for programs that have not the real thing.
INSTRUMENTED = re.compile(
    r'^lib[^/]*\.p/(?!.*stub)(?:accel_kvm|hw_virtio_virtio|io_|migration_|'
    r'monitor_(?:monitor|qmp)|'
    r'system_(?:cpus|memory|physmem|ram-|runstate|shutdown|userfault)|'
    r'util_(?:async|bitmap|coroutine|hbitmap|iov|qemu-coroutine|'
    r'qemu-thread|rcu|userfaultfd|yank))')

# With it, coroutines tell AddressSanitizer about their stacks.
ADDRESS = Sanitizer(FOLDER, '-fsanitize=address')


def _commands(folder: Path) -> Iterator[List[str]]:
    """How QEMU is compiled, and linked in the end."""
    for command in subprocess.run(
            ['ninja', '-C', folder, '-t', 'commands', PROGRAM],
            stdout=subprocess.PIPE, text=True,
            check=True).stdout.splitlines():
        words = command.replace('$', '$$').split()
        if '-c' in words and INSTRUMENTED.match(output_of(words)):
            yield words
    # Its words are in a file.
    for entry in json.loads(subprocess.run(
            ['ninja', '-C', folder, '-t', 'compdb', '-x', 'c_LINKER_RSP'],
            stdout=subprocess.PIPE, check=True).stdout):
        if entry['output'] == PROGRAM:
            yield entry['command'].replace('$', '$$').split()


def _edges(folder: Path, target: str) -> Iterator[str]:
    """What ninja has to do, in QEMU's folder."""
    objects: List[str] = []
    for words in _commands(folder):
        output = output_of(words)
        if '-c' in words:
            objects.append(output)
            command = ' '.join(compile_command(words, ADDRESS, target))
            yield f'build {target}/{output}: cc {words[-1]}\n' \
                f' cmd = {command}'
            continue
        ours = [f'{target}/{name}' for name in objects]
        at = words.index(output)
        rest = [word for word in words[at + 1:] if word not in objects]
        # First: what archives have is taken only if it is not there yet.
        words = [*words[:at], f'{target}/{output}', '-fsanitize=address',
                 *ours, *rest]
        yield f"build {target}/{output}: link {' '.join(ours)} | {PROGRAM}\n" \
            f" cmd = {' '.join(words)}"


def write_ninja(folder: Path, target: str) -> str:
    """A build of its own; its paths are relative to QEMU's."""
    return '\n'.join([
        f'builddir = {target}',
        'rule cc', ' command = $cmd', ' description = CC $out',
        ' deps = gcc', ' depfile = $out.d',
        'rule link', ' command = $cmd', ' description = LINK $out',
        *_edges(folder, target), ''])


def build(project: Project) -> None:
    """Build it."""
    qemu.build(project, [PROGRAM])
    folder, target = project.build / 'qemu', project.build / FOLDER
    with stamp.lock(target / '.lock'):
        (target / 'build.ninja').write_text(
            write_ninja(folder, f'../{FOLDER}'), encoding='utf-8')
        log = Log(target / 'build.log')
        with log.explains("QEMU can't be built for AddressSanitizer"):
            log.run('ninja', '-C', folder, '-f', f'../{FOLDER}/build.ninja',
                    env=environment(project))
    # A QEMU that runs where it was built looks for all paths below this.
    bundle = target / 'qemu-bundle'
    bundle.unlink(missing_ok=True)
    bundle.symlink_to('../qemu/qemu-bundle')
