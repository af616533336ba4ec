# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU again, with some of its objects compiled in another way.

All else is that of build/qemu, so that takes seconds.
"""

import json
from pathlib import Path
import subprocess
from typing import (
    Callable,
    Iterator,
    List,
    Optional,
)

from kuf.build import qemu, stamp
from kuf.build.compilers import environment
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.build.sanitizers import output_of


PROGRAM = 'qemu-system-x86_64'

# From the command that compiles an object to another one, with an output of the
# same name in another folder; nothing where the object stays as it is.
Change = Callable[[List[str]], Optional[List[str]]]


def _compile_commands(folder: Path) -> Iterator[List[str]]:
    """How QEMU's build there compiles each object, as words for ninja."""
    for command in subprocess.run(
            ['ninja', '-C', folder, '-t', 'commands', PROGRAM],
            stdout=subprocess.PIPE, text=True,
            check=True).stdout.splitlines():
        words = command.replace('$', '$$').split()
        if '-c' in words:
            yield words


def _link_command(folder: Path) -> List[str]:
    """How it is linked in the end; ninja has the words in a file."""
    commands: List[str] = [entry['command'] for entry in json.loads(
        subprocess.run(
            ['ninja', '-C', folder, '-t', 'compdb', '-x', 'c_LINKER_RSP'],
            stdout=subprocess.PIPE, check=True).stdout)
        if entry['output'] == PROGRAM]
    return commands[0].replace('$', '$$').split()


def _edges(folder: Path, target: str, change: Change,
           flags: List[str]) -> Iterator[str]:
    """What ninja has to do, in QEMU's folder."""
    objects: List[str] = []
    for words in _compile_commands(folder):
        if changed := change(words):
            output = output_of(words)
            objects.append(output)
            yield f'build {target}/{output}: cc {changed[-1]}\n' \
                f" cmd = {' '.join(changed)}"
    words = _link_command(folder)
    ours = [f'{target}/{name}' for name in objects]
    at = words.index(PROGRAM)
    rest = [word for word in words[at + 1:] if word not in objects]
    # First: what archives have is taken only if it is not there yet.
    words = [*words[:at], f'{target}/{PROGRAM}', *flags, *ours, *rest]
    yield f"build {target}/{PROGRAM}: link {' '.join(ours)} | {PROGRAM}\n" \
        f" cmd = {' '.join(words)}"


def _write_ninja(folder: Path, target: str, change: Change,
                 flags: List[str]) -> str:
    """A build of its own; its paths are relative to QEMU's."""
    return '\n'.join([
        f'builddir = {target}',
        'rule cc', ' command = $cmd', ' description = CC $out',
        ' deps = gcc', ' depfile = $out.d',
        'rule link', ' command = $cmd', ' description = LINK $out',
        *_edges(folder, target, change, flags), ''])


def build(project: Project, name: str, what: str, change: Change,
          *flags: str) -> Path:
    """
    Build it as build/NAME/qemu-system-x86_64.

    @param change: gets all commands; paths are relative to build/qemu, where
        the new folder is ../NAME
    @param flags: for the linker
    @return the program
    """
    qemu.build(project, [PROGRAM])
    folder, target = project.build / 'qemu', project.build / name
    with stamp.lock(target / '.lock'):
        (target / 'build.ninja').write_text(
            _write_ninja(folder, f'../{name}', change, [*flags]),
            encoding='utf-8')
        log = Log(target / 'build.log')
        with log.explains(f"QEMU can't be built {what}"):
            log.run('ninja', '-C', folder, '-f', f'../{name}/build.ninja',
                    env=environment(project))
    # A QEMU that runs where it was built looks for all paths below this.
    bundle = target / 'qemu-bundle'
    bundle.unlink(missing_ok=True)
    bundle.symlink_to(folder / 'qemu-bundle')
    return target / PROGRAM
