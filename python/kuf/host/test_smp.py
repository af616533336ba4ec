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

# One calls a function all the time that says a number; the other writes the
# next number into its code, says so, and waits until it is told that number.
# What still tells the old one after so many more calls is not the code that is
# there.
CODE = '''
import ctypes
import mmap
import os

CHANGES = 5000
PATIENCE = 100
END = -1

code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE
                 | mmap.PROT_EXEC)
# mov $0, %eax; ret.  The number is at 4, so that it is written at once.
code[3:9] = bytes([0xb8, 0, 0, 0, 0, 0xc3])
number = memoryview(code).cast('i')[1:2]
function = ctypes.CFUNCTYPE(ctypes.c_int)(
    ctypes.addressof(ctypes.c_char.from_buffer(code)) + 3)
shared = memoryview(mmap.mmap(-1, 4096)).cast('i')
SAID, TOLD, CALLS = 0, 1, 2

def call():
    os.sched_setaffinity(0, {1})
    while shared[SAID] != END:
        shared[TOLD] = function()
        shared[CALLS] += 1

def was_told(wanted):
    enough = shared[CALLS] + PATIENCE
    while True:
        calls = shared[CALLS]
        if shared[TOLD] == wanted:
            return True
        if calls > enough:
            return False

def change():
    os.sched_setaffinity(0, {0})
    wrong = 0
    for wanted in range(1, CHANGES + 1):
        number[0] = wanted
        shared[SAID] = wanted
        wrong += not was_told(wanted)
    shared[SAID] = END
    print(wrong)

if os.fork():
    change()
    os.wait()
else:
    call()
'''


class TwoProcessorsTest(unittest.TestCase):
    """What the emulator's vCPUs share."""

    def run_there(self, program: str) -> str:
        """What a Python program prints in a host of two processors."""
        done = subprocess.run([str(TOP / 'host/run'), '--smp', '2',
                               '--timeout', '300', '--', 'python3', '-c',
                               program],
                              stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_memory_map_changes(self) -> None:
        self.assertEqual(self.run_there(MAPS), 'True []\n')

    def test_code_changes(self) -> None:
        self.assertEqual(self.run_there(CODE), '0\n')
