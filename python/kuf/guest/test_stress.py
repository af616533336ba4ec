# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the guest's work "stress", as a process of this machine.

Whatever is wrong with a page must be noticed, and nothing is said after that.
"""

import array
from contextlib import contextmanager
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import tempfile
import time
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
    Tuple,
)
import unittest

from kuf.paths import TOP


SOURCES = TOP / 'guest'
PAGE = 4096
# Pages of a megabyte.
MEGABYTE = 256
# Nothing takes that long, in seconds.
PATIENCE = 60
# What is wrong is seen in the next pass.
NOTICED = 20

LINE = re.compile(
    rb'stress: t=(?P<t>\d+) pages=(?P<pages>\d+) pass=(?P<passes>\d+)'
    rb'( slow=(?P<slow>\d+:\d+(,\d+:\d+)*))?'
    rb'( stalls=(?P<stalls>[1-9]\d*)( at=(?P<at>\d+:\d+(,\d+:\d+)*))?)?\n')
WRONG = re.compile(
    rb'WRONG stress: page (\d+) \((own region of thread \d+|shared)\), '
    rb'word (\d+): have ([0-9a-f]{16}), want ([0-9a-f]{16}), '
    rb'sequence (\d+)\n')

BUCKETS_C = """
#include "stress.c"

const char *work_name;
void say(const char *format, ...) { }
void die(const char *what) { exit(1); }
void end_all(const char *format, ...) { exit(1); }
void *allocate(size_t size) { return NULL; }

int main(void)
{
    unsigned long ns;

    while (scanf("%lu", &ns) == 1) {
        printf("%u\\n", bucket_of(ns));
    }
    return 0;
}
"""


def compile_c(output: Path, *args: str) -> Path:
    """Build a program of files in this folder."""
    subprocess.run(['gcc', '-O2', '-g', '-Wall', '-pthread', '-I', str(SOURCES),
                    '-o', str(output), *args], cwd=SOURCES, check=True)
    return output


def pairs(text: bytes) -> Dict[int, int]:
    """"1:2,3:4" as numbers."""
    return dict((int(a), int(b)) for a, b in
                (pair.split(b':') for pair in text.split(b',')))


class Wrong(NamedTuple):
    """What a guest says at its end."""
    page: int
    region: str
    word: int
    have: int
    want: int
    sequence: int


class Guest:
    """A process that does the work, and its memory."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, program: Path, options: str = '', more: str = ''):
        works = [f'stress:{options}'.rstrip(':'), *more.split()]
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([program, *works],
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        assert self.process.stdout
        self.output = self.process.stdout
        while not (line := self.line()).startswith(b'stress: up '):
            if not line or line.startswith(b'WRONG'):
                raise AssertionError(f'not up: {line!r}')
        self.up = line
        fields = dict(re.findall(r'(\w+)=(\S+)', self.up.decode()))
        self.pages = int(fields['pages'])
        self.start = int(fields['at'], 16)
        self.threads = int(fields['threads'])
        self.own = int(fields['own']) * MEGABYTE
        children = Path(f'/proc/{self.process.pid}/task/{self.process.pid}'
                        '/children')
        self.pid = int(children.read_text(encoding='ascii').split()[0])
        # pylint: disable=consider-using-with
        self.memory = open(f'/proc/{self.pid}/mem', 'r+b', buffering=0)

    def line(self) -> bytes:
        """The next line."""
        return self.output.readline()

    def close(self) -> None:
        """No more of it."""
        self.memory.close()
        self.process.kill()
        self.process.wait()
        self.output.close()

    def reports(self) -> Iterator['re.Match[bytes]']:
        """Lines of the work, parsed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            line = self.line()
            match = LINE.fullmatch(line)
            if not match:
                raise AssertionError(f'not a report: {line!r}')
            yield match
        raise AssertionError(f'waited {PATIENCE} s')

    def wait_passes(self, number: int) -> None:
        """Until all threads have done that many more."""
        reports = self.reports()
        goal = int(next(reports)['passes']) + number
        for report in reports:
            if int(report['passes']) >= goal:
                return

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """All threads stand still."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f'/proc/{self.pid}/task')
        while not all(' T ' in (task / 'stat').read_text(encoding='ascii')
                      for task in stat.iterdir()):
            time.sleep(0.001)
        yield
        os.kill(self.pid, signal.SIGCONT)

    def read(self, page: int, count: int = 1) -> bytes:
        """Some pages."""
        return os.pread(self.memory.fileno(), count * PAGE,
                        self.start + page * PAGE)

    def write(self, page: int, data: bytes, offset: int = 0) -> None:
        """Into a page."""
        os.pwrite(self.memory.fileno(), data,
                  self.start + page * PAGE + offset)

    def sequences(self) -> List[int]:
        """How often each page was written."""
        words = array.array('Q', self.read(0, self.pages))
        return list(words[2::PAGE // 8])

    def wrong(self) -> Wrong:
        """What it says at the end, which must be the end."""
        deadline = time.monotonic() + NOTICED
        while (match := WRONG.fullmatch(line := self.line())) is None:
            if not line or time.monotonic() > deadline:
                raise AssertionError(f'nothing is wrong: {line!r}')
        if after := self.line():
            raise AssertionError(f'goes on after {line!r}: {after!r}')
        return Wrong(int(match[1]), match[2].decode(), int(match[3]),
                     int(match[4], 16), int(match[5], 16), int(match[6]))


class StressTest(unittest.TestCase):
    """The work, as GCC builds it."""

    # pylint: disable=too-many-public-methods
    flags: List[str] = []
    folder: 'tempfile.TemporaryDirectory[str]'
    program: Path

    @classmethod
    def setUpClass(cls) -> None:
        # pylint: disable=consider-using-with
        cls.folder = tempfile.TemporaryDirectory(prefix='guest-')
        cls.program = compile_c(Path(cls.folder.name, 'init'), 'init.c',
                                'stress.c', *cls.flags)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def guest(self, options: str, more: str = '') -> Guest:
        """One that ends with the test."""
        guest = Guest(self.program, options, more)
        self.addCleanup(guest.close)
        return guest

    def test_reports(self) -> None:
        """What there is to say, in all orders, with and without writing."""
        for order in ('random', 'sequential'):
            for write in (0, 50, 100):
                with self.subTest(order=order, write=write):
                    guest = self.guest(f'threads=3:own=1:shared=1:order={order}'
                                       f':write={write}:tick=20')
                    self.assertRegex(guest.up.decode(), 'stress: up threads=3 '
                                     f'own=1 shared=1 order={order} '
                                     f'write={write} rest=0 tick=20 pages=1024 '
                                     'at=0x')
                    self.check_reports(guest)
                    guest.close()

    def check_reports(self, guest: Guest) -> None:
        """Numbers grow, and fit each other."""
        before = [0, 0, 0]
        for report in guest.reports():
            now = [int(report[name]) for name in ('t', 'pages', 'passes')]
            self.assertTrue(all(a <= b for a, b in zip(before, now)))
            visits = (guest.own + MEGABYTE) * guest.threads
            self.assertGreaterEqual(now[1], now[2] * visits)
            self.assertLessEqual(len(report[0]), 255)
            slow = pairs(report['slow']) if report['slow'] else {}
            # 32 us
            self.assertTrue(all(bucket >= 59 for bucket in slow))
            self.assertTrue(all(us >= 1000 for _, us in self.stalls(report)))
            if now[2] >= 3 and before[1] > 0:
                return
            before = now

    def stalls(self, report: 're.Match[bytes]') -> List[List[int]]:
        """Those that a report lists, as it should."""
        if not report['at']:
            return []
        found = [[int(number) for number in pair.split(b':')]
                 for pair in report['at'].split(b',')]
        self.assertLessEqual(len(found), min(8, int(report['stalls'])))
        return found

    def test_stall(self) -> None:
        """A process that stood still when it touched a page shows that."""
        guest = self.guest('threads=4:own=4:write=0:tick=20')
        for report in guest.reports():
            with guest.stopped():
                time.sleep(0.05)
            if any(us >= 50000 for _, us in self.stalls(report)):
                break

    def test_defaults(self) -> None:
        """Without options."""
        self.assertRegex(self.guest('').up.decode(), 'up threads=2 own=32 '
                         'shared=8 order=random write=90 rest=0 tick=250 '
                         'pages=18432 ')

    def test_rests(self) -> None:
        """64 visits take as long as a rest, at least."""
        guest = self.guest('threads=1:own=1:shared=0:rest=20:tick=20')
        start = time.monotonic()
        guest.wait_passes(2)
        self.assertGreater(time.monotonic() - start,
                           2 * guest.own // 64 * 0.02)

    def test_refused(self) -> None:
        """Options that there are not."""
        for option in ('threads=0', 'threads=65', 'own=0', 'own=-1', 'own=',
                       'own=1x', 'write=101', 'rest=1001', 'tick=0',
                       'order=up', 'order', 'size=1',
                       'a-name-that-is-too-long=1'):
            with self.subTest(option=option):
                result = subprocess.run(
                    [self.program, f'stress:{option}:tick=100'],
                    capture_output=True, timeout=PATIENCE, check=False)
                self.assertIn(f'WRONG stress: {option}: '.encode(),
                              result.stdout)
                self.assertNotIn(b'stress: up', result.stdout)
                self.assertEqual(result.returncode, 1)

    def test_once_a_pass(self) -> None:
        """
        Whenever it stands still, each page of a thread was written once in each
        pass, or once more in this one.
        """
        for order in ('random', 'sequential'):
            for threads in (1, 2):
                with self.subTest(order=order, threads=threads):
                    guest = self.guest(f'threads={threads}:own=3:shared=1'
                                       f':write=100:tick=20:order={order}')
                    guest.wait_passes(1)
                    walks = self.walks(guest)
                    if order == 'random':
                        self.check_random(walks)
                    else:
                        self.assertTrue(all(re.fullmatch('x*-*', walk)
                                            for walk in walks))
                    guest.close()

    def walks(self, guest: Guest) -> List[str]:
        """Which pages threads have visited when they are within a pass."""
        walks: Dict[Tuple[int, int], str] = {}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(random.uniform(0.001, 0.01))
            with guest.stopped():
                sequences = guest.sequences()
            for place, walk in self.walked(guest, sequences).items():
                if len(walk) < 4 * walk.count('x') < 3 * len(walk):
                    walks[place] = walk
            if len(walks) >= 10:
                return list(walks.values())
        raise AssertionError('seen in too few passes')

    def walked(self, guest: Guest,
               sequences: List[int]) -> Dict[Tuple[int, int], str]:
        """Which of its pages a thread has visited in its pass, by these two."""
        size = guest.own if guest.threads > 1 else guest.pages
        walks, least, most = {}, 0, 0
        for thread in range(guest.threads):
            own = sequences[thread * size:(thread + 1) * size]
            low, high = min(own), max(own)
            self.assertLessEqual(high, low + 1)
            walks[thread, low] = ''.join('x' if n > low else '-' for n in own)
            # It may be that only shared ones have been visited, or not yet.
            least += low - (low == high)
            most += high + (low == high)
        for sequence in sequences[guest.threads * size:]:
            self.assertTrue(least <= sequence <= most)
        return walks

    def check_random(self, walks: List[str]) -> None:
        """No two passes have much more in common than they must."""
        for i, walk in enumerate(walks):
            self.assertGreater(len(re.findall('x+', walk)), 20)
            for other in walks[:i]:
                both = sum(a == b == 'x' for a, b in zip(walk, other))
                fewer = min(walk.count('x'), other.count('x'))
                chance = walk.count('x') * other.count('x') / len(walk)
                self.assertLess(both, chance + 0.75 * (fewer - chance))

    def check_wrong(self, guest: Guest, page: int) -> Wrong:
        """The page is noticed."""
        wrong = guest.wrong()
        self.assertEqual(wrong.page, page)
        thread = page // guest.own
        self.assertEqual(wrong.region, f'own region of thread {thread}'
                         if thread < guest.threads else 'shared')
        self.assertNotEqual(wrong.have, wrong.want)
        return wrong

    def test_flipped_bits(self) -> None:
        """In any word, of any region, whatever the order."""
        words = [0, 1, 2, 3, 4, 5, 510, 511]
        words += random.sample(range(6, 510), 4)
        for number, word in enumerate(words):
            page = (5, 300, 700)[number % 3]
            order = ('random', 'sequential')[number % 2]
            bit = random.randrange(64)
            with self.subTest(page=page, word=word, bit=bit):
                guest = self.guest('own=1:shared=1:write=0:tick=20'
                                   f':order={order}')
                guest.wait_passes(1)
                byte = guest.read(page)[word * 8 + bit // 8] ^ 1 << bit % 8
                guest.write(page, bytes([byte]), word * 8 + bit // 8)
                wrong = self.check_wrong(guest, page)
                self.assertEqual(wrong.word, word)
                self.assertEqual(wrong.have ^ wrong.want, 1 << bit)
                guest.close()

    def test_zeroed(self) -> None:
        """A page that was lost."""
        for page in (0, 256, 512):
            guest = self.guest('own=1:shared=1:write=0:tick=20')
            guest.wait_passes(1)
            guest.write(page, bytes(PAGE))
            self.assertEqual(self.check_wrong(guest, page).have, 0)
            guest.close()

    def test_elsewhere(self) -> None:
        """A page that was put in another's place."""
        guest = self.guest('own=1:shared=1:write=0:tick=20')
        guest.wait_passes(1)
        guest.write(100, guest.read(101))
        self.assertEqual(self.check_wrong(guest, 100).have, 101)

    def test_stale(self) -> None:
        """An old copy, whose checksum is right."""
        for region in (0, 1, 2):
            guest = self.guest('own=1:shared=1:write=100:tick=20'
                               ':order=sequential')
            guest.wait_passes(1)
            with guest.stopped():
                old = guest.read(0, guest.pages)
            guest.wait_passes(2)
            with guest.stopped():
                page = self.quiet_page(guest, region)
                guest.write(page, old[page * PAGE:(page + 1) * PAGE])
            wrong = self.check_wrong(guest, page)
            self.assertGreater(wrong.sequence, 1)
            guest.close()

    @staticmethod
    def quiet_page(guest: Guest, region: int) -> int:
        """
        One that no thread is at: in sequential order, its neighbours were
        written as often as it was.
        """
        sequences = guest.sequences()
        start = region * MEGABYTE
        for page in range(start + 8, start + MEGABYTE - 8):
            if len(set(sequences[page - 8:page + 9])) == 1:
                return page
        raise AssertionError('threads are everywhere')

    def test_never_written(self) -> None:
        """What was never written is zero."""
        for size in (64, 256, 1024):
            guest = self.guest(f'threads=1:own={size}:shared=0:tick=20'
                               ':order=sequential')
            page = guest.pages - 1
            with guest.stopped():
                early = guest.read(page) == bytes(PAGE)
                guest.write(page, b'\1', PAGE - 1)
            if early:
                wrong = self.check_wrong(guest, page)
                self.assertEqual((wrong.word, wrong.have, wrong.want,
                                  wrong.sequence), (511, 1 << 56, 0, 0))
                return
            guest.close()
        self.fail('too slow to come first')

    def test_ends_all(self) -> None:
        """Other works end, too, and they say nothing more."""
        guest = self.guest('own=1:shared=1:write=0:tick=1', 'memory:1')
        while not (line := guest.line()).startswith(b'memory: pass 3'):
            self.assertTrue(line, 'it has ended')
        guest.write(3, b'\xff', 7)
        self.assertEqual(guest.wrong().page, 3)
        self.assertLess(guest.process.wait(), 0)


class ThreadSanitizerTest(StressTest):
    """The work, watched for data races: any report is not a line of its own."""

    flags = ['-fsanitize=thread']


class BucketsTest(unittest.TestCase):
    """How long touches took."""

    def test_bounds(self) -> None:
        """Bucket b is from 2^(b/4), exactly."""
        numbers: List[int] = []
        for power in range(4, 40):
            for quarter in range(4):
                # The smallest number whose fourth power is 2^(4p+q) or more.
                bound = 1 << power
                step = bound
                while step := step // 2:
                    if (bound + step) ** 4 < 1 << (4 * power + quarter):
                        bound += step
                bound += bound ** 4 < 1 << (4 * power + quarter)
                numbers += [bound - 1, bound]
        expected = [b for bucket in range(16, 160)
                    for b in (bucket - 1, bucket)]
        with tempfile.TemporaryDirectory(prefix='guest-') as folder:
            source = Path(folder, 'buckets.c')
            source.write_text(BUCKETS_C, encoding='ascii')
            program = compile_c(Path(folder, 'buckets'), str(source))
            found = subprocess.run(
                [program], input=' '.join(map(str, numbers)), check=True,
                capture_output=True, encoding='ascii').stdout
        self.assertEqual([int(line) for line in found.split()], expected)


if __name__ == '__main__':
    unittest.main()
