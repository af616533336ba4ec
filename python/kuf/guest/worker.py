# SPDX-License-Identifier: GPL-2.0-or-later
"""
A side of a migration, with a guest that works, and says on its console what
it does.
"""

from pathlib import Path
import re
import socket
from typing import (
    Iterator,
    List,
    Optional,
    Sequence,
)

from kuf.guest.backing import RAM, backing_args
from kuf.guest.devices import Device
from kuf.guest.machine import GuestError, GuestMachine, pauses
from kuf.guest.monitor import Monitor


MB = 1 << 20
MEMORY = 256
# What the guest writes to, beside the device, in megabytes.
BUSY_MEMORY = 16
# The guest's first words, see guest/init.c.
UP = 'guest: up'
# Ports of this machine for each side.
PORTS = {'source': 9100, 'destination': 9101}


def wait_for(what: str, *vms: 'Worker') -> Iterator[float]:
    """Pauses, until the caller has what it waits for, or for too long."""
    for waited in pauses(what, 0.05):
        for vm in vms:
            vm.check()
        yield waited


def memory_args(backing: Optional[str]) -> List[str]:
    """QEMU's arguments; without a backing, it is as QEMU makes it."""
    if backing is None:
        return ['-m', str(MEMORY)]
    return [*backing_args(backing, MEMORY),
            '-machine', f'memory-backend={RAM}']


class Worker(GuestMachine):
    """One side of a migration, and the guest's console."""

    def __init__(self, side: str, job: Path, device: Device, args: List[str],
                 wrapper: Sequence[str] = (), memory: Optional[str] = None,
                 qemu: Optional[Path] = None):
        """
        @param memory: what it is in the host, of kuf.guest.backing
        @param qemu: another one than build/qemu has
        """
        # pylint: disable=too-many-arguments
        self.job = job
        self.in_band: Optional[Monitor] = None
        self.monitor_path = job / f'{side}.in-band'
        self.console_path = job / f'{side}.console'
        self.serial_path = job / f'{side}.serial'
        work = f'memory:{BUSY_MEMORY}'
        if device.work:
            work += f',{device.work}'
        self.works = [part.split(':')[0] for part in work.split(',')]
        # So often the guest starts here.
        self.starts = 0 if '-incoming' in args else 1
        super().__init__(
            side, job, job, guest='guest', kernel=device.kernel,
            wrapper=wrapper, qemu=qemu,
            append=f'{device.append} guest.modules={device.modules} '
            f'guest.work={work}',
            args=['-machine', device.machine, *memory_args(memory),
                  '-serial', f'file:{self.console_path}',
                  *(arg.format(disk=job / 'disk', disk2=job / 'disk2',
                               serial=self.serial_path, side=side,
                               port=PORTS.get(side))
                    for arg in device.args),
                  *Monitor.args(self.monitor_path), *args])

    def become(self, side: str) -> None:
        """It is called that from now on; its files are not."""
        self.side = side
        if self.in_band:
            self.in_band.side = side

    def monitor(self, oob: bool = False) -> Monitor:
        """A monitor without out-of-band commands, or with them."""
        if not self.in_band:
            self.in_band = Monitor(self.monitor_path, self.side, oob)
        return self.in_band

    def console(self) -> str:
        """All that the guest has printed here."""
        if not self.console_path.exists():
            return ''
        return self.console_path.read_text(errors='replace')

    def passes(self, work: str) -> int:
        """The last pass of a work that was reported here."""
        found = re.findall(rf'^{re.escape(work)}: pass (\d+)',
                           self.console(), re.M)
        return int(found[-1]) if found else 0

    def check(self) -> None:
        """Nothing wrong so far?"""
        said = self.console()
        if wrong := re.search(r'^.*(WRONG|Kernel panic|BUG:|I/O error).*$',
                              said, re.M):
            raise GuestError(f'the guest in the {self.side} says: '
                             f'{wrong[0].strip()}')
        # Who finds nothing where its code was is reset, and all is well again.
        if said.count(UP) > self.starts:
            raise GuestError(f'the guest in the {self.side} has started again')
        self.check_running()

    def wait_passes(self, number: int, only: str = '') -> None:
        """Wait until each work, or just one, has done some more of them."""
        for work in [only.split(':')[0]] if only else self.works:
            goal = self.passes(work) + number
            for _ in wait_for(f'pass {goal} of {work} in the {self.side}',
                              self):
                if self.passes(work) >= goal:
                    break
                status = self.cmd('query-status')['status']
                if status != 'running':
                    raise GuestError(f'the {self.side} is {status}')

    def tell_report(self, answer: str) -> None:
        """Have the guest go on with its memory that is to be freed."""
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(self.serial_path))
            port.send(b'x')
            for _ in wait_for(f"'report: {answer}' in the {self.side}", self):
                if f'report: {answer}' in self.console():
                    break

    def vcpu_threads(self) -> List[int]:
        """Who else asks for memory."""
        return [cpu['thread-id'] for cpu in self.cmd('query-cpus-fast')]

    def vhost_runs(self) -> bool:
        """Does the kernel serve the one virtio device?"""
        path = self.cmd('x-query-virtio')[0]['path']
        return 'vhost-dev' in self.cmd('x-query-virtio-status', path=path)

    def out_of_reach(self) -> int:
        """How many bytes of the guest's memory QEMU itself can't access."""
        table = self.cmd('human-monitor-command', command_line='info ramblock')
        block = re.search(r'^ *pc\.ram .*(0x[0-9a-f]+) +rw\s*$', table, re.M)
        if not block:
            raise GuestError(f'no pc.ram in: {table}')
        start = int(block[1], 16)
        maps = Path(f'/proc/{self.get_pid()}/maps').read_text(encoding='utf-8')
        found = 0
        for low, high in re.findall(r'^(\w+)-(\w+) ---[ps]', maps, re.M):
            low, high = int(low, 16), int(high, 16)
            if start <= low < start + MEMORY * MB:
                found += high - low
        return found


def check_screen(vm: Worker, job: Path) -> None:
    """
    What a display would show is what the guest draws, see guest/init.c:
    from top to bottom, one pass over the one before.
    """
    picture = job / 'screen.ppm'
    vm.cmd('stop')
    vm.cmd('screendump', filename=str(picture))
    vm.cmd('cont')
    header, size, _depth, pixels = picture.read_bytes().split(b'\n', 3)
    if (header, size) != (b'P6', b'640 480'):
        raise GuestError(f'a screen of {size.decode()}')
    line = 640 * 3
    last: Optional[int] = None
    for y in range(480):
        row = pixels[y * line:(y + 1) * line]
        colours = {row[x:x + 3] for x in range(0, line, 3)}
        passes = sorted((c[0] << 8 | c[1] for c in colours), reverse=True)
        if any(c[2] != y & 0xff for c in colours) or len(passes) > 2 or (
                last is not None and not last - 1 <= passes[-1] <= last):
            raise GuestError(f'line {y} of the screen has the wrong colours '
                             f'{[c.hex() for c in colours]} below {last}')
        last = passes[0] if last is None else min(last, passes[-1])
