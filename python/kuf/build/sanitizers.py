# SPDX-License-Identifier: GPL-2.0-or-later
"""
The unit tests of what has no locks, or few, under GCC's sanitizers.

Only the tests, the code that they test and what synchronises it are built
again, in build/unit-*, with the commands of QEMU's own build; all else is that
of build/qemu.  These are 30 files.  With --enable-tsan, or --enable-asan, QEMU
would build 494 for the same tests, and none of them could have flags of its
own, which RCU needs.
"""

from dataclasses import dataclass
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import (
    Dict,
    Iterator,
    List,
    Tuple,
)

from kuf import cli
from kuf.build import stamp
from kuf.build.compilers import environment
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP


TESTS = ('test-ram-wait', 'test-userfault-view', 'test-postcopy-around',
         'test-postcopy-claim', 'test-kvm-userfault-nested',
         'test-qmp-unattended', 'test-ram-bypass', 'test-postcopy-over',
         'test-postcopy-gate', 'test-postcopy-pieces')

# Instrumented along with the tests' own sources.
SOURCES = ('util/bitmap.c', 'util/notify.c', 'util/qemu-thread-posix.c',
           'util/rcu.c')

TEST_OBJECT = re.compile(r'tests/unit/test-[a-z-]*\.p/')


@dataclass(frozen=True)
class Sanitizer:
    """How to build for it."""

    folder: str
    flags: str
    # For util/rcu.c, and nothing else.
    rcu: str = ''


SANITIZERS: Dict[str, Sanitizer] = {
    # ThreadSanitizer does not know of memory barriers.  RCU is made of them:
    # there each access is one instead, so that grace periods order what they
    # should.
    'thread': Sanitizer(
        'unit-tsan', '-fsanitize=thread -Wno-tsan',
        '-U__ATOMIC_RELAXED -D__ATOMIC_RELAXED=__ATOMIC_SEQ_CST'),
    'address': Sanitizer(
        'unit-asan',
        '-fsanitize=address,undefined -fno-sanitize-recover=undefined'),
}

OPTIONS = {
    'TSAN_OPTIONS': 'halt_on_error=1',
    'ASAN_OPTIONS': 'detect_stack_use_after_return=1',
    'UBSAN_OPTIONS': 'print_stacktrace=1',
}

USAGE = f'''\
Usage: scripts/check-sanitizers [thread] [address]

Builds and runs {' '.join(TESTS)}
with ThreadSanitizer (thread), with AddressSanitizer and UBSan (address), or
with all of them.  Exit status is 0 if no test failed and nothing was
reported.'''


def output_of(words: List[str]) -> str:
    """The file that a command makes."""
    return words[words.index('-o') + 1] if '-o' in words[:-1] else ''


def _instrumented(words: List[str]) -> bool:
    """Whether a compiler's command is for a source of ours."""
    return bool(TEST_OBJECT.match(output_of(words))) or \
        words[-1].endswith(SOURCES)


def compile_command(words: List[str], how: Sanitizer, folder: str) -> List[str]:
    """The command to compile it in our folder, and for the sanitizer."""
    flags = ['-Wno-error', how.flags]
    if words[-1].endswith('rcu.c'):
        flags.append(how.rcu)
    command: List[str] = []
    for before, word in zip(['', *words], words):
        if word == '-o':
            command += flags
        moved = before in ('-MQ', '-MF', '-o')
        command.append(f'{folder}/{word}' if moved else word)
    return command


def _link(words: List[str], how: Sanitizer, folder: str,
          objects: List[str]) -> Tuple[List[str], List[str]]:
    """The command to link a test of our objects, and those that it takes."""
    common = [f'{folder}/{name}' for name in objects
              if name.startswith('libqemuutil')]
    command, used = [], list(common)
    for before, word in zip(['', *words], words):
        if word == '-o':
            command += ['-Wno-error', how.flags, *common]
        if word in objects:
            used.append(f'{folder}/{word}')
        moved = before == '-o' or word in objects
        command.append(f'{folder}/{word}' if moved else word)
    return command, used


def _edges(commands: List[str], how: Sanitizer, folder: str) -> Iterator[str]:
    """What QEMU's build does for the tests, but in our folder."""
    objects: List[str] = []
    tests = [f'tests/unit/{name}' for name in TESTS]
    for line in commands:
        words = line.replace('$', '$$').split()
        output = output_of(words)
        if '-c' in words:
            if not _instrumented(words):
                continue
            objects.append(output)
            yield f'build {folder}/{output}: cc {words[-1]}\n' \
                f" cmd = {' '.join(compile_command(words, how, folder))}"
        elif output in tests:
            command, used = _link(words, how, folder, objects)
            yield f"build {folder}/{output}: link {' '.join(used)} | " \
                f"libqemuutil.a\n cmd = {' '.join(command)}"


def _write_ninja(qemu: Path, how: Sanitizer) -> str:
    """A build of its own; its paths are relative to QEMU's."""
    commands = subprocess.run(
        ['ninja', '-C', qemu, '-t', 'commands',
         *(f'tests/unit/{name}' for name in TESTS)],
        stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    folder = f'../{how.folder}'
    return '\n'.join([
        f'builddir = {folder}',
        'rule cc', ' command = $cmd', ' description = CC $out',
        ' deps = gcc', ' depfile = $out.d',
        'rule link', ' command = $cmd', ' description = LINK $out',
        *_edges(commands, how, folder), ''])


def build(project: Project, name: str) -> Path:
    """Build the tests; returns their folder."""
    how = SANITIZERS[name]
    qemu, folder = project.build / 'qemu', project.build / how.folder
    with stamp.lock(folder / '.lock'):
        (folder / 'build.ninja').write_text(_write_ninja(qemu, how),
                                            encoding='utf-8')
        log = Log(folder / 'build.log')
        with log.explains("the unit tests can't be built with "
                          f'-fsanitize={name}'):
            log.run('ninja', '-C', qemu, '-f', f'../{how.folder}/build.ninja',
                    env=environment(project))
    return folder / 'tests/unit'


def _fixed_addresses() -> List[str]:
    """
    Without it, ThreadSanitizer does not start where addresses are very random.
    """
    command = ['setarch', '-R']
    works = shutil.which('setarch') and subprocess.run(
        [*command, 'true'], stderr=subprocess.DEVNULL,
        check=False).returncode == 0
    return command if works else []


def check(project: Project, name: str) -> bool:
    """Build and run the tests; returns whether all is well."""
    folder = build(project, name)
    env = dict(os.environ)
    for option, value in OPTIONS.items():
        env[option] = f"{value} {env.get(option, '')}"
    good = [subprocess.run([*_fixed_addresses(), folder / test, '--tap', '-k'],
                           env=env, check=False).returncode == 0
            for test in TESTS]
    return all(good)


def _work() -> int:
    names = sys.argv[1:] or list(SANITIZERS)
    if '--help' in names or '-h' in names:
        print(USAGE)
        return 0
    project = Project(TOP)
    for name in names:
        if name not in SANITIZERS:
            raise Failure(f"'{name}' is no sanitizer known here; --help tells "
                          'which are')
    for test in TESTS:
        program = project.build / 'qemu/tests/unit' / test
        if not program.exists():
            raise Failure(f"'{program}' is not there; run make first")
    return int(not all([check(project, name) for name in names]))


def main() -> int:
    """The program."""
    return cli.run('scripts/check-sanitizers', _work)
