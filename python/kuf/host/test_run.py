# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of host/run: what it promises, and what it says when it can't.
"""

import os
from pathlib import Path
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
from typing import Any, List, Sequence
import unittest

from kuf.host import tsc
from kuf.paths import TOP


# Other tests may run hosts at the same time; this tells which are ours.
MARK = f'test={os.getpid()}'
# What the instruction clock reads at power on, in seconds.
START_OF_CLOCK = 1767225600
BARE = [str(TOP / 'host/run'), '--append', MARK]
# Many of these run side by side with other tests.
RUN = [*BARE, '--smp', '1']


def run(*args: str, **kwargs: Any) -> 'subprocess.CompletedProcess[str]':
    """host/run with its output caught."""
    kwargs.setdefault('stdin', subprocess.DEVNULL)
    if 'input' in kwargs:
        del kwargs['stdin']
    return subprocess.run([*RUN, '--timeout', '120', *args], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False, **kwargs)


def emulators() -> List[str]:
    """The QEMUs that these tests started and that are still there."""
    found = []
    for entry in Path('/proc').iterdir():
        try:
            command = (entry / 'cmdline').read_bytes().decode(errors='replace')
        except OSError:
            continue
        if f' {MARK}' in command:
            found.append(command)
    return found


class RunTest(unittest.TestCase):
    """A command in the host is a command."""

    def test_exit_status(self) -> None:
        self.assertEqual(run('--', 'sh', '-c', 'exit 7').returncode, 7)

    def test_kernel(self) -> None:
        done = run('--', 'uname', '-r')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r'^6\.12\.\d+')

    def test_streams(self) -> None:
        done = run('--', 'sh', '-c', 'cat; echo wrong >&2',
                   input='first\nlast, without a newline')
        self.assertEqual(done.stdout, 'first\nlast, without a newline')
        self.assertEqual(done.stderr, 'wrong\n')

    def test_closed_input(self) -> None:
        done = subprocess.run(['sh', '-c', '"$@" <&-', 'sh', *RUN, '--',
                               'cat'], check=False)
        self.assertEqual(done.returncode, 0)

    def test_much_output(self) -> None:
        done = run('--', 'seq', '200000')
        self.assertEqual(done.stdout.splitlines(),
                         [str(i) for i in range(1, 200001)])

    def test_caller(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            odd = "a 'b' \"c\" $d\ne"
            done = run('--', 'sh', '-c', 'id -u; pwd; echo "$ODD"; echo "$1"',
                       'sh', odd, cwd=folder, env=dict(os.environ, ODD=odd))
            self.assertEqual(done.stdout, f'0\n{folder}\n{odd}\n{odd}\n')

    def test_machine(self) -> None:
        done = run('--smp', '2', '--mem', '1G', '--append', 'extra=1', '--',
                   'sh', '-c', 'nproc; cat /proc/cmdline; ls -d /dev/kvm;'
                   'grep -o -m 1 -w npt /proc/cpuinfo;'
                   'grep MemTotal /proc/meminfo')
        self.assertRegex(done.stdout,
                         r'^2\n.* extra=1\n/dev/kvm\nnpt\nMemTotal:'
                         r' +(9|10)\d{5} ')

    def test_clock(self) -> None:
        """
        As fast as this machine's.  The kernel is told: it would find out, too,
        but not while much else is to be done.
        """
        done = run('--', 'sh', '-c',
                   'cat /proc/cmdline; dmesg | grep "tsc: Detected"')
        for pattern, unit in ((r' tsc_early_khz=(\d+)', 1000),
                              (r'Detected ([\d.]+) MHz', 1)):
            rate = float(re.findall(pattern, done.stdout)[-1]) / unit
            self.assertAlmostEqual(rate, tsc.khz() / 1000, delta=5)

    def nproc(self, processors: Sequence[int], *options: str) -> int:
        """
        How many processors the host has that is not told.

        @param processors: those of this machine that it is left
        """
        done = subprocess.run(
            ['taskset', '-c', ','.join(map(str, processors)), *BARE,
             '--timeout', '120', *options, '--', 'nproc'],
            stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
            check=True)
        return int(done.stdout)

    def test_processors(self) -> None:
        """Two, if this machine has as many."""
        here = sorted(os.sched_getaffinity(0))
        self.assertEqual(self.nproc(here), min(2, len(here)))
        self.assertEqual(self.nproc(here, '--icount'), 1)
        self.assertEqual(self.nproc(here[:1]), 1)

    def test_writes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept, lost = Path(folder, 'kept'), Path(folder, 'lost')
            kept.mkdir()
            lost.mkdir()
            done = run('--writable', str(kept), '--', 'sh', '-ec',
                       'echo 1 > "$1/file"; echo 2 > "$2/file"; cat "$2/file"',
                       'sh', str(kept), str(lost))
            self.assertEqual(done.stdout, '2\n', done.stderr)
            self.assertEqual((kept / 'file').read_text(), '1\n')
            self.assertFalse((lost / 'file').exists())

    def test_containers(self) -> None:
        done = run('--', 'unshare', '--mount-proc', '--uts', '--ipc', '--net',
                   '--pid', '--cgroup', '--fork', 'sh', '-ec',
                   'hostname inner; mount -t tmpfs none /mnt; touch /mnt/seen;'
                   'nsenter --mount=/proc/$$/ns/mnt ls /mnt')
        self.assertEqual(done.stdout, 'seen\n', done.stderr)
        done = run('--', 'sh', '-c', 'hostname;'
                   'cat /sys/fs/cgroup/cgroup.controllers')
        self.assertEqual(done.stdout, 'host\ncpuset cpu io memory pids\n')

    def test_terminal(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(RUN[0], [*RUN, '--timeout', '120', '--', 'sh', '-c',
                              'tty; read line && echo "got $line"'])
        seen = b''
        while select.select([terminal], [], [], 120)[0]:
            try:
                data = os.read(terminal, 1024)
            except OSError:
                break
            if b'hvc0' in data:
                os.write(terminal, b'typed\r')
            seen += data
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0, seen)
        self.assertIn(b'/dev/hvc0', seen)
        self.assertIn(b'got typed', seen)

    def test_instruction_clock(self) -> None:
        times = []
        for _ in range(5):
            done = run('--icount', '--', 'date', '+%s.%N')
            self.assertEqual(done.returncode, 0, done.stderr)
            times.append(float(done.stdout) - START_OF_CLOCK)
        self.assertLessEqual(max(times) - min(times), 0.01 * max(times),
                             times)


class FailureTest(unittest.TestCase):
    """What goes wrong is said, and nothing is left behind."""

    def tearDown(self) -> None:
        self.assertEqual(emulators(), [])

    def test_unknown_kernel(self) -> None:
        done = run('--kernel', 'nonsense', '--', 'true')
        self.assertEqual(done.returncode, 125)
        self.assertRegex(done.stderr, "no kernel 'nonsense'; there are: .*"
                         'debug, default, nouffd')

    def test_kernel_not_built(self) -> None:
        config = TOP / 'host/configs/not-built-test.config'
        config.touch()
        self.addCleanup(config.unlink)
        done = run('--kernel', 'not-built-test', '--', 'true')
        self.assertEqual(done.returncode, 125)
        self.assertIn('make kernel-not-built-test', done.stderr)

    def test_command_not_found(self) -> None:
        done = run('--', 'no-such-command', 'argument')
        self.assertEqual(done.returncode, 127)
        self.assertEqual(done.stderr,
                         'host/run: no-such-command: command not found\n')

    def test_no_command(self) -> None:
        self.assertIn('COMMAND', run().stderr)

    def test_too_little_memory(self) -> None:
        done = run('--mem', '99999G', '--', 'true')
        self.assertEqual(done.returncode, 125)
        self.assertIn('smaller --mem', done.stderr)

    def test_hang(self) -> None:
        done = subprocess.run([*RUN, '--timeout', '15', '--', 'sleep', '1000'],
                              stdin=subprocess.DEVNULL, text=True,
                              stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 124)
        for word in ('RIP=', 'ISR', 'IRR', 'did not end in 15 s'):
            self.assertIn(word, done.stderr)

    def kernel_failure(self, trigger: str, says: str) -> None:
        """The command is a success, but the kernel is not."""
        done = run('--', 'sh', '-c', trigger)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertIn("the host's kernel failed", done.stderr)

    def test_panic(self) -> None:
        self.kernel_failure('echo c > /proc/sysrq-trigger; sleep 60',
                            'Kernel panic - not syncing')

    def test_oops(self) -> None:
        self.kernel_failure('echo BUG > /sys/kernel/debug/provoke-crash/DIRECT'
                            ' || :', 'kernel BUG at')

    def test_warning(self) -> None:
        self.kernel_failure('echo WARNING >'
                            ' /sys/kernel/debug/provoke-crash/DIRECT',
                            'WARNING: CPU: 0')

    def killed(self, signum: int) -> None:
        """host/run ends at a signal, and QEMU with it."""
        with subprocess.Popen([*RUN, '--', 'sh', '-c', 'echo up; sleep 1000'],
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE) as process:
            assert process.stdout
            self.assertEqual(process.stdout.readline(), b'up\n')
            process.send_signal(signum)
        end = time.monotonic() + 10
        while emulators() and time.monotonic() < end:
            time.sleep(0.1)

    def test_terminated(self) -> None:
        self.killed(signal.SIGTERM)

    def test_killed(self) -> None:
        self.killed(signal.SIGKILL)


if __name__ == '__main__':
    unittest.main(verbosity=2)
