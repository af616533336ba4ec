# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how the interface of two kernels is compared.
"""

from pathlib import Path
import tempfile
from typing import Dict
import unittest

from kuf.build import uapi
from kuf.cli import Failure


HEADER = '''\
#include <linux/types.h>
#define KVM_NEW (1UL << 3)
struct kvm_userspace_memory_region2 {
    __u32 slot; /* which */
 /* old; */
    __u64 pad[2];
    __u64 bitmap;
};
'''


class UapiTest(unittest.TestCase):
    """A header, and what the compiler says of it."""

    def ask(self, header: str) -> Dict[str, str]:
        """What such a header says."""
        with tempfile.TemporaryDirectory() as folder:
            include = Path(folder) / 'include'
            (include / 'linux').mkdir(parents=True)
            (include / 'linux/kvm.h').write_text(header, encoding='ascii')
            return uapi.ask(['KVM_NEW'], include, Path(folder))

    def test_fields(self) -> None:
        self.assertEqual(uapi.fields(HEADER), ['slot', 'pad', 'bitmap'])

    def test_same(self) -> None:
        found = self.ask(HEADER)
        self.assertEqual(found['KVM_NEW'], '0x8')
        self.assertEqual(len(found), 5)
        uapi.compare(found, self.ask(HEADER), 'kvm.h')

    def test_differences(self) -> None:
        ours = self.ask(HEADER)
        for old, new, what in (
                ('<< 3', '<< 4', "KVM_NEW is '0x8' in Linux and '0x10'"),
                ('#define KVM_NEW', '#define OTHER',
                 "KVM_NEW is '0x8' in Linux and 'missing'"),
                ('pad[2]', 'pad[3]', r'region2.pad is'),
                ('__u64 bitmap', '__u32 bitmap', r'region2.bitmap is')):
            with self.assertRaisesRegex(Failure, what):
                uapi.compare(ours, self.ask(HEADER.replace(old, new)), 'kvm.h')

    def test_one_that_is_qemu_s_only(self) -> None:
        ours = self.ask(HEADER.replace('#define KVM_NEW', '#define OTHER'))
        with self.assertRaisesRegex(Failure, "KVM_NEW is in QEMU's kvm.h and "
                                    'not in Linux'):
            uapi.compare(ours, self.ask(HEADER), 'kvm.h')
