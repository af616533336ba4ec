# SPDX-License-Identifier: GPL-2.0-or-later
"""
Measure what the fork costs while nothing is migrated.

Counts the instructions of QEMU's accesses to guest memory, of a vCPU's exits
and of requests to a disk, with the fork and with the QEMU that is its base, in
the emulated host under the instruction clock, keeps the numbers in
bench/results, and brings the documents up to date.
"""

import argparse
import json
import os
from pathlib import Path
from statistics import median
import subprocess
import tempfile
import time
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
)

from kuf import cli, inside
from kuf.architectures import ARCHITECTURES
from kuf.bench import numbers
from kuf.bench.counting import release
from kuf.cli import Failure
from kuf.documents.feature_off import digest
from kuf.documents.publish import publish
from kuf.documents.records import Data
from kuf.paths import BASE_BUILD, TOP


PROG = 'bench/idle-cost'
LAUNCHER = TOP / PROG

# The guest is of that architecture, see bench/idle-guest.S.
ARCHITECTURE = ARCHITECTURES['x86_64']
QEMUS = {'base': ARCHITECTURE.qemu_in(BASE_BUILD), 'fork': ARCHITECTURE.qemu}

# The debug console, where each round ends with a byte, see idle-guest.S.
MARK_PORT = 0xe9
# Of a short and a long round each; the long one does twice the work.
PAIRS = 3

# There is no way from a guest to QEMU and back that is shorter.
LEAST_EXIT = 1000

# Accesses to guest memory in the case "dma".
ACCESSES = 3


class Chore(NamedTuple):
    """Something that a guest does over and over, see idle-guest.S."""
    name: str
    title: str
    unit: str
    rounds: int
    args: str = ''


CHORES = {chore.name: chore for chore in (
    Chore('port', 'a vCPU writes to a port, and goes on', 'an exit', 20000),
    Chore('mmio', 'a vCPU reads from a device (VGA), and goes on', 'an exit',
          20000, '-device VGA,romfile='),
    Chore('dma', 'a vCPU writes to a port, and QEMU accesses guest memory '
          'three times', 'an exit', 20000),
    Chore('disk', 'a guest reads 4K of a virtio-blk disk', 'a request', 2000,
          # No work of a host's file system; the transfer is left out, too.
          '-blockdev null-co,node-name=disk,size=1048576,read-zeroes=off '
          '-device virtio-blk-pci,drive=disk,addr=4,disable-modern=on'),
)}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--boots', metavar='N', type=int, default=3,
                        help='boots of the emulated host [3]')
    numbers.add_json(parser, 'idle-cost')
    # In the emulated host: measure once with each, in this order.
    inside.add_option(parser)
    parser.add_argument('--qemus', type=lambda text: text.split(','),
                        default=list(QEMUS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.boots < 1:
        parser.error('--boots takes a number from 1')
    return args


def assemble(chore: Chore, folder: Path) -> Path:
    """The guest, as firmware."""
    obj, image = folder / 'guest.o', folder / 'guest.bin'
    symbols = [f'{chore.name.upper()}=1', f'COUNT={chore.rounds}',
               f'PAIRS={PAIRS}']
    subprocess.run(['as', '--32', '-o', obj, TOP / 'bench/idle-guest.S',
                    *(arg for symbol in symbols
                      for arg in ('--defsym', symbol))], check=True)
    subprocess.run(['ld', '-m', 'elf_i386', '-Ttext', '0', '-e', '0',
                    '--oformat', 'binary', '-o', image, obj], check=True)
    return image


def marks(pipe: int, number: int) -> Iterator[int]:
    """When each round ended, in nanoseconds, which are instructions."""
    for _ in range(number):
        if not os.read(pipe, 1):
            raise Failure('QEMU has ended too soon; its message is above')
        yield time.monotonic_ns()


def cost(qemu: Path, chore: Chore) -> float:
    """
    What one of these costs, in instructions.

    A long round does more of just that than the short one before it, so that
    all else that a round has does not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = assemble(chore, Path(folder))
        ours, qemus = os.pipe()
        with subprocess.Popen(
                [qemu, '-M', 'pc', '-m', '16', '-display', 'none',
                 '-nodefaults', '-no-user-config', '-bios', image,
                 *ARCHITECTURE.guest_args(),
                 '-chardev', f'file,id=mark,path=/dev/fd/{qemus}',
                 '-device', f'isa-debugcon,iobase={MARK_PORT:#x},chardev=mark',
                 *chore.args.split()],
                stdin=subprocess.DEVNULL, pass_fds=[qemus]) as process:
            os.close(qemus)
            try:
                times = list(marks(ours, 1 + 2 * PAIRS))
            finally:
                os.close(ours)
                process.kill()
    rounds = [end - start for start, end in zip(times, times[1:])]
    more = sum(rounds[1::2]) - sum(rounds[0::2])
    instructions = more / (PAIRS * chore.rounds)
    if instructions < LEAST_EXIT:
        raise Failure(f"in the case '{chore.name}' the guest does not come "
                      'to QEMU; correct bench/idle-guest.S')
    return instructions


def measure_here(names: List[str]) -> None:
    """All cases with each QEMU, in one boot; print them as JSON."""
    print(json.dumps({name: {chore.name: cost(QEMUS[name], chore)
                             for chore in CHORES.values()} for name in names}))


def boot(number: int, folder: Path) -> Data:
    """
    The costs by QEMU and chore, in one boot of the emulated host.

    @param folder: what that may write to
    """
    # Neither is always the first.
    names = sorted(QEMUS, reverse=number % 2 == 0)
    result = subprocess.run(
        [TOP / 'host/run', '--icount', '--timeout', '1200', '--writable',
         folder, '--', *inside.command(LAUNCHER, '--qemus', ','.join(names))],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding='utf-8',
        check=False)
    if result.returncode:
        raise Failure(f'boot {number} failed with status '
                      f'{result.returncode}; its messages are above')
    costs: Data = json.loads(result.stdout)
    return costs


def same_options() -> None:
    """Only patches may make a difference."""
    options = []
    for qemu in QEMUS.values():
        if not qemu.exists():
            raise Failure(f'{qemu} is not built; run: make base-qemu')
        options.append((qemu.parent / 'meson-info/intro-buildoptions.json')
                       .read_text(encoding='utf-8'))
    if options[0] != options[1]:
        raise Failure('the two QEMUs are not built with the same options; '
                      'run: make base-qemu')


def access_cost(costs: Dict[str, float]) -> float:
    """One access to guest memory, with what fw_cfg makes of it."""
    return (costs['dma'] - costs['port']) / ACCESSES


def row(name: str, title: str, unit: str, base: List[float],
        fork: List[float]) -> Data:
    """The costs in all boots, and their medians side by side."""
    difference = median(fork) - median(base)
    return {'name': name, 'title': title, 'unit': f'instructions {unit}',
            'base': base, 'fork': fork, 'difference': difference,
            'percent': difference / median(base) * 100}


def rows(boots: List[Data]) -> Iterator[Data]:
    """All cases, after what two of them say of an access."""
    yield row('access', 'QEMU accesses guest memory', 'an access',
              *([access_cost(costs[qemu]) for costs in boots]
                for qemu in ('base', 'fork')))
    for chore in CHORES.values():
        yield row(chore.name, chore.title, chore.unit,
                  *([costs[qemu][chore.name] for costs in boots]
                    for qemu in ('base', 'fork')))


def measure(count: int, folder: Path) -> Data:
    """As many boots as asked for."""
    same_options()
    boots = []
    for number in range(1, count + 1):
        print(f'boot {number} of {count}', flush=True)
        boots.append(boot(number, folder))
    return {'boots': count, 'pairs': PAIRS, 'release': release('default'),
            'rows': list(rows(boots))}


def work() -> int:
    """Measure, write the numbers, keep them."""
    args = parse_args()
    if args.inside:
        measure_here(args.qemus)
        return 0
    args.json.parent.mkdir(parents=True, exist_ok=True)
    data = measure(args.boots, args.json.parent)
    numbers.write(args.json, data)
    publish('feature-off', args.json, data['release'], digest(data))
    print(args.json)
    return 0


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
