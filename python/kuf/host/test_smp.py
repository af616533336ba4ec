# SPDX-License-Identifier: GPL-2.0-or-later
"""
An emulated host of two processors: what one does is right for the other.
"""

import subprocess
import unittest

from kuf.paths import TOP


# Each write to the bridge's PAM registers makes a memory map with another
# number of sections, of which AHCI's registers are among the last.  The version
# in them, 1.0, must be there at every moment.
MAPS = '''
import mmap
import os
import time

DEVICES = '/sys/bus/pci/devices/0000:00:'
SECONDS = 10
MEMORY = 2
VERSION = 0x10000

def change_maps(end):
    os.sched_setaffinity(0, {1})
    bridge = os.open(DEVICES + '00.0/config', os.O_RDWR)
    while time.monotonic() < end:
        for enabled in (0x11, 0x33):
            os.pwrite(bridge, bytes([enabled] * 6), 0x91)

def read_register(end):
    os.sched_setaffinity(0, {0})
    config = os.open(DEVICES + '1f.2/config', os.O_RDWR)
    command = os.pread(config, 1, 4)[0]
    os.pwrite(config, bytes([command | MEMORY]), 4)
    bar = os.open(DEVICES + '1f.2/resource5', os.O_RDWR)
    registers = memoryview(mmap.mmap(bar, 4096)).cast('I')
    right, wrong = 0, []
    while time.monotonic() < end:
        value = registers[4]
        if value == VERSION:
            right += 1
        else:
            wrong.append(hex(value))
    print(right > 0, wrong)

end = time.monotonic() + SECONDS
if os.fork():
    read_register(end)
    os.wait()
else:
    change_maps(end)
'''


class TwoProcessorsTest(unittest.TestCase):
    """What the emulator's vCPUs share."""

    def test_memory_map_changes(self) -> None:
        done = subprocess.run([str(TOP / 'host/run'), '--smp', '2',
                               '--timeout', '300', '--', 'python3', '-c', MAPS],
                              stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, 'True []\n')
