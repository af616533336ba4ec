# SPDX-License-Identifier: GPL-2.0-or-later
"""What demo/run makes of what it sees, without any QEMU."""

from pathlib import Path
import socket
import subprocess
import tempfile
import time
import unittest

from kuf import modes
from kuf.demo import console, counters, hop
from kuf.guest import backing
from kuf.paths import TOP


RUN = TOP / 'demo/run'

UP = 'stress: up threads=2 own=32 shared=16 pages=20480'
LINE = ('stress: t=1500 pages=4000 pass=2 slow=60:3,80:1 stalls=2 '
        'at=1400:1200,1450:2300')


class Samples(unittest.TestCase):
    """Lines of the guest."""

    def test_all_fields(self) -> None:
        """A line with all that there can be."""
        sample = console.parse_sample(LINE, 7.0)
        self.assertEqual(sample, (7.0, 1500, 4000, 2, {60: 3, 80: 1},
                                  [(1400, 1200), (1450, 2300)]))

    def test_few_fields(self) -> None:
        """Nothing was slow."""
        sample = console.parse_sample('stress: t=1 pages=2 pass=0', 7.0)
        self.assertEqual(sample, (7.0, 1, 2, 0, {}, []))

    def test_cut(self) -> None:
        """QEMU was stopped in the middle of a line."""
        for end in range(len('stress: t=1500 pages=4000 pas')):
            self.assertIsNone(console.parse_sample(LINE[:end], 7.0))

    def test_buckets(self) -> None:
        """Each ends where the next one begins; four double the time."""
        self.assertEqual(console.bucket_ns(60)[1], console.bucket_ns(61)[0])
        self.assertAlmostEqual(console.bucket_ns(64)[0],
                               2 * console.bucket_ns(60)[0])

    def test_quantile(self) -> None:
        """Within the bucket that has it."""
        buckets = [(10, 20, 10), (20, 40, 10)]
        self.assertEqual(hop.quantile(buckets, 10), 20)
        self.assertEqual(hop.quantile(buckets, 5), 15)
        self.assertEqual(hop.quantile(buckets, 15), 30)
        self.assertEqual(hop.quantile(buckets, 20), 40)

    def test_slowest(self) -> None:
        """From the upper end, and no more than there are."""
        buckets = [(10, 20, 10), (20, 40, 10)]
        self.assertEqual(hop.slowest(buckets, 0), [])
        self.assertEqual(hop.slowest(buckets, 4), [(20, 40, 4)])
        self.assertEqual(hop.slowest(buckets, 12),
                         [(10, 20, 2), (20, 40, 10)])
        self.assertEqual(hop.slowest(buckets, 30), buckets)

    def test_first_touches(self) -> None:
        """All pages that were missing count, whoever waited for them."""
        buckets = [(10, 20, 10), (20, 40, 10)]
        found = hop.first_touches(buckets, 100)
        self.assertEqual(found, [(0, 0, 80), *buckets])
        self.assertEqual(hop.quantile(found, 50), 0)
        self.assertEqual(hop.quantile(found, 95), 30)
        found = hop.first_touches(buckets, 15)
        self.assertEqual(found, [(0, 0, 0), (10, 20, 5), (20, 40, 10)])
        self.assertEqual(hop.quantile(found, 0), 10)


class Consoles(unittest.TestCase):
    """A guest's serial port."""

    def setUp(self) -> None:
        # pylint: disable=consider-using-with
        self.job = tempfile.TemporaryDirectory()
        self.addCleanup(self.job.cleanup)

    def talk(self, name: str, *lines: str) -> console.Console:
        """A console on which this was said."""
        path = Path(self.job.name) / name
        result = console.Console(path)
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(path))
            guest.sendall(''.join(f'{line}\r\n' for line in lines).encode())
        for _ in range(100):
            if not result.thread.is_alive():
                break
            time.sleep(0.05)
        return result

    def test_lines(self) -> None:
        """All kinds of them."""
        seen = self.talk('console', UP, 'guest: up', LINE, 'disk: pass 3')
        self.assertEqual(seen.up['pages'], '20480')
        self.assertEqual(len(seen.samples), 1)
        self.assertIsNone(seen.wrong)

    def test_wrong(self) -> None:
        """The first that is wrong is kept."""
        for line in ('WRONG stress: page 5', 'Kernel panic - not syncing',
                     'blk_update_request: I/O error, dev vda'):
            seen = self.talk(line.split()[0], LINE, line, 'WRONG disk: later')
            self.assertEqual(seen.wrong, line)

    def test_rates(self) -> None:
        """Pages a second by the guest's clock, and over the switch."""
        before = self.talk('before')
        before.samples = [console.Sample(10.0, 0, 0, 0, {}, []),
                          # late on its way
                          console.Sample(11.5, 1000, 500, 0, {}, [])]
        after = self.talk('after')
        after.samples = [console.Sample(12.0, 1100, 600, 0, {}, [])]
        self.assertEqual(console.rates([before, after]),
                         [(11.0, 500.0), (12.0, 100.0)])

    def test_slow_touches(self) -> None:
        """Those of postcopy alone."""
        seen = self.talk('slow')
        seen.samples = [console.Sample(t, t * 1000, 0, 0, {60: t}, [])
                        for t in (1, 2, 3, 4, 5)]
        self.assertEqual(console.slow_touches(seen, 1.5, 3.5), {60: 2 + 3 + 4})


class Counters(unittest.TestCase):
    """What the host's kernel says."""

    def test_roles(self) -> None:
        """Threads by the names that QEMU gives them."""
        for name, role in (('mig/dst/listen', 'placing'),
                           ('mig/dst/preempt', 'placing'),
                           ('mig/dst/fault', 'placing'),
                           ('CPU 11/KVM', 'vcpu'),
                           ('qemu-system-x86', 'other')):
            self.assertEqual(counters.role(name), role)

    def test_threads(self) -> None:
        """This one is there, and has been switched."""
        threads = counters.Threads('self')
        threads.look()
        self.assertTrue(threads.names)
        switches = threads.by_role()
        self.assertGreater(sum(switches['other']), 0)
        self.assertEqual(switches['placing'], (0, 0))
        self.assertEqual(switches['vcpu'], (0, 0))

    def test_unseen(self) -> None:
        """Threads that nobody saw have not called nothing."""
        calls = counters.SystemCalls()
        calls.active = True
        self.assertIsNone(calls.by_role({1: 'CPU 0/KVM'}))

    def test_names(self) -> None:
        """Numbers are those of x86-64."""
        self.assertEqual(counters.call_names()[16], 'ioctl')


class CommandLine(unittest.TestCase):
    """demo/run as it is called."""

    def refused(self, *args: str) -> str:
        """What it says when it can't do that."""
        result = subprocess.run([RUN, *args], check=False,
                                stderr=subprocess.PIPE, encoding='utf-8')
        self.assertEqual(result.returncode, 2)
        return result.stderr

    def test_refused(self) -> None:
        """Options that make no sense are named."""
        self.assertIn("'fast' is not one of: userfaultfd",
                      self.refused('--modes', 'fast'))
        self.assertIn("'0' is not a number", self.refused('--rounds', '0'))
        self.assertIn('the guest has 64 MB',
                      self.refused('--memory', '64', '--own', '64'))
        # It was out of memory with that.
        self.assertIn('the guest has 192 MB',
                      self.refused('--memory', '192', '--own', '48',
                                   '--shared', '24'))
        self.assertIn('pages of 1024 MB then, and 128 MB are not',
                      self.refused('--backing', 'hugetlb-1g'))
        self.assertIn('--icount is about',
                      self.refused('--icount', '--no-host'))
        self.assertIn('a clock of one processor',
                      self.refused('--icount', '--host-cpus', '2'))

    def test_all_modes(self) -> None:
        """The command line has all modes that there are."""
        text = subprocess.run([RUN, '--help'], check=True,
                              stdout=subprocess.PIPE,
                              encoding='utf-8').stdout
        for name in list(modes.MODES) + list(backing.BACKINGS):
            self.assertIn(name, text)


if __name__ == '__main__':
    unittest.main()
