# SPDX-License-Identifier: GPL-2.0-or-later
"""
A host on the freshly built QEMU, under TCG with nested virtualisation.

It has the caller's file system: read only underneath, writes go to memory and
are gone afterwards, except in one folder that is written through.
"""

import os
from pathlib import Path
import sys
import threading
from typing import List, Optional

from qemu.machine import QEMUMachine
from qemu.machine.machine import VMLaunchFailure

from kuf.cli import Failure
from kuf.emulators import EMULATORS
from kuf.host.host import Host
from kuf.host.job import (
    Job,
    enter,
    exports,
    window,
    write_script,
)
from kuf.host.streams import Stream
from kuf.paths import require
from kuf.process import WITH_US, Terminal


# QEMU's monitor answers in that time, or hangs itself; in seconds.
ANSWER = 20


class Emulation(QEMUMachine):
    """The QEMU that a host runs on."""

    def launch(self) -> None:
        """Start it; a command that is not answered in time is an error."""
        try:
            super().launch()
        except VMLaunchFailure as exc:
            raise Failure(f'QEMU did not start: {exc.output}') from exc
        self._qmp.settimeout(ANSWER)

    def monitor(self, command: str) -> str:
        """One answer of the monitor for humans, or why there is none."""
        try:
            return str(self.cmd('human-monitor-command',
                                command_line=command)).strip()
        except TimeoutError:
            return 'no answer: QEMU does not answer'
        except Exception as exc:  # pylint: disable=broad-except
            return f'no answer: {exc}'


def share(tag: str, path: Path, options: str) -> List[str]:
    """
    QEMU's arguments for a 9p file system.

    Without ioeventfd, a request is taken by the processor that makes it; the
    instruction clock then never runs while an answer is on its way.
    """
    return ['-fsdev', f'local,id={tag},path={path},security_model=none,'
            f'multidevs=remap,{options}',
            '-device', f'virtio-9p-pci,fsdev={tag},mount_tag={tag},'
            'ioeventfd=off']


class TcgHost(Host):
    """A host whose processor is AMD's."""

    prefix = 'run'
    evidence = ("the emulated machine's registers, interrupt controllers and "
                'log are')

    def __init__(self, job: Job, *, icount: bool, writable: Path,
                 terminal: bool):
        """
        @param icount: the clock counts instructions
        @param writable: the folder that is written through
        @param terminal: the command has the caller's
        """
        super().__init__(job, EMULATORS['tcg'])
        self.initramfs = require(self.kernel.initramfs, 'the initramfs',
                                 'make')
        self.icount = icount
        self.writable = writable
        self.terminal = Terminal(terminal)
        self.streams = {name: Stream() for name in
                        ('stdin', 'stdout', 'stderr', 'status')}
        self.vm = Emulation(
            str(self.binary), wrapper=WITH_US, name='qemu',
            base_temp_dir=str(self.folder), log_dir=str(self.folder))
        self.vm.add_args(*self.machine_args())

    def clock_args(self) -> List[str]:
        """QEMU's arguments for the clock and the processors."""
        architecture = self.emulator.architecture
        if not self.icount:
            return ['-accel', 'tcg', '-cpu', architecture.cpu]
        return ['-accel', 'tcg,thread=single', '-icount', 'shift=0,sleep=off',
                '-rtc', 'base=2026-01-01T00:00:00,clock=vm',
                '-cpu', architecture.counting_cpu]

    def append(self) -> str:
        """The kernel's command line; "hostrun" is for host/init."""
        architecture = self.emulator.architecture
        modules = self.kernel.modules
        return self.command_line(
            f'console={architecture.console}',
            f'hostrun.job={self.folder} hostrun.writable={self.writable}',
            f"hostrun.terminal={'yes' if self.terminal.saved else 'no'}",
            f'hostrun.modules={modules}' if modules else '',
            architecture.counting_append if self.icount
            else architecture.append())

    def machine_args(self) -> List[str]:
        """QEMU's arguments for the machine, its kernel and its root."""
        return self.clock_args() + [
            '-M', self.emulator.architecture.machine,
            '-smp', str(self.job.smp), '-m', str(self.job.memory),
            '-nodefaults', '-no-user-config', '-no-reboot',
            '-kernel', str(self.kernel.image),
            '-initrd', str(self.initramfs),
            '-append', self.append(),
            '-serial', f'file:{self.folder}/console.log',
            *share('root', Path('/'), 'readonly=on'),
            *share('writable', self.writable, 'readonly=off'),
            '-device', 'virtio-serial-pci,ioeventfd=off']

    def add_ports(self) -> None:
        """The ports that host/init expects, copied from and to our files."""
        ports = [('status', 'virtserialport', 4)]
        if self.terminal.saved:
            ports.append(('stdout', 'virtconsole', 0))
            self.streams['stdout'].copy_in(sys.stdin.buffer)
        else:
            ports += [('stdin', 'virtserialport', 1),
                      ('stdout', 'virtserialport', 2),
                      ('stderr', 'virtserialport', 3)]
            self.streams['stdin'].copy_in(sys.stdin.buffer)
            self.streams['stderr'].copy_out(sys.stderr.buffer)
        self.streams['stdout'].copy_out(sys.stdout.buffer)
        for name, device, number in ports:
            self.vm.add_args(*self.streams[name].chardev(name))
            self.vm.add_args('-device',
                             f'{device},chardev={name},nr={number}')

    def attend(self) -> Optional[bytes]:
        """Its streams are the caller's."""
        with self.terminal as terminal:
            write_script(self.folder / 'command', self.job,
                         exports(os.environ)
                         + window(terminal.size if terminal.saved else None)
                         + enter(os.getcwd()))
            self.add_ports()
            self.vm.launch()
            # QEMU keeps the only copy of its ends.
            for stream in self.streams.values():
                stream.qemus.close()
            report = self.wait()
            if report is not None:
                self.finish()
        return report

    def wait(self) -> Optional[bytes]:
        """What init reported at the end, or None after the timeout."""
        report = bytearray()

        def collect() -> None:
            while data := self.streams['status'].receive():
                report.extend(data)
        collector = threading.Thread(target=collect, daemon=True)
        collector.start()
        collector.join(self.job.timeout or None)
        return None if collector.is_alive() else bytes(report)

    def finish(self) -> None:
        """Let it power off, and pass on the last of its output."""
        self.vm.wait(timeout=30)
        for stream in self.streams.values():
            stream.drain()

    def kill(self) -> None:
        """End QEMU."""
        self.vm.shutdown(hard=True)

    def emulator_log(self) -> str:
        """QEMU's."""
        return self.vm.get_log() or ''

    def state(self) -> str:
        """Registers and interrupt controllers."""
        architecture = self.emulator.architecture
        commands = ['info cpus', 'info registers -a']
        commands += [command.format(cpu=cpu) for cpu in range(self.job.smp)
                     for command in architecture.cpu_controllers]
        commands += architecture.controllers
        return ''.join(f'(qemu) {command}\n{self.vm.monitor(command)}\n'
                       for command in commands)
