# SPDX-License-Identifier: GPL-2.0-or-later
"""
A migration that is cancelled, by a QEMU to which sockets are shut down slowly.

It may be the migration's own thread that gets to know of that first.  Needs no
KVM.
"""

from pathlib import Path
import subprocess
import tempfile
import time
from typing import Any, Dict, List
import unittest

from qemu.machine import QEMUMachine

from kuf.paths import BUILD


# Nothing takes that long, in seconds.
PATIENCE = 60

# What takes the place of the C library's.
SLOW_C = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

int shutdown(int socket, int how)
{
    int (*next)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "shutdown");
    int ret = next(socket, how);

    usleep(300000);
    return ret;
}
'''


class CancelTest(unittest.TestCase):
    """The source, which is asked for its state."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix='guest-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.slow = self.folder / 'slow.so'
        subprocess.run(['gcc', '-shared', '-fPIC', '-x', 'c', '-o', self.slow,
                        '-'], input=SLOW_C, text=True, check=True)

    def qemu(self, side: str, *args: str) -> QEMUMachine:
        """One without a guest."""
        vm = QEMUMachine(
            str(BUILD / 'qemu/qemu-system-x86_64'), name=side,
            wrapper=['env', f'LD_PRELOAD={self.slow}'],
            base_temp_dir=str(self.folder))
        vm.add_args('-nodefaults', '-accel', 'tcg', '-m', '64', *args)
        self.addCleanup(vm.shutdown, hard=True)
        vm.launch()
        vm.cmd('migrate-set-capabilities', capabilities=[
            {'capability': 'return-path', 'state': True}])
        return vm

    def wait_status(self, vm: QEMUMachine, wanted: List[str]) -> str:
        """Until its migration is one of these."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer: Dict[str, Any] = vm.cmd('query-migrate')  # type: ignore
            status = str(answer.get('status'))
            if status in wanted:
                return status
            self.assertLess(time.monotonic(), deadline, status)
            time.sleep(0.05)

    def test_cancelled(self) -> None:
        """It has not failed."""
        uri = f'unix:{self.folder}/link'
        destination = self.qemu('destination', '-incoming', 'defer')
        source = self.qemu('source')
        destination.cmd('migrate-incoming', uri=uri)
        # It is far from its end.
        source.cmd('migrate-set-parameters', max_bandwidth=65536)
        source.cmd('migrate', uri=uri)
        self.wait_status(source, ['active'])
        source.cmd('migrate_cancel')
        self.assertEqual(self.wait_status(source, ['cancelled', 'failed']),
                         'cancelled')
