# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of what a campaign is made of: what is drawn, threads that stand still,
pages that are taken away, and runs in a host that is not one.
"""

import contextlib
import ctypes
import io
import json
import mmap
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import List
import unittest
import unittest.mock

from kuf.campaign import limits, pages, run
from kuf.campaign.faults import FAULTS
from kuf.campaign.freeze import frozen
from kuf.campaign.hosts import HOSTS
from kuf.campaign.inside import MARK
from kuf.campaign.kinds import KINDS
from kuf.campaign.plan import (
    DEVICE_NAMES,
    PROCESSORS,
    SAME_GUEST,
    draw,
)
from kuf.campaign.results import by_seed, load, total
from kuf.guest.backing import fitting
from kuf.guest.worker import MEMORY
from kuf.process import threads


# What counts in two threads, and says how far both are.
COUNTERS = '''
import sys, threading, time
from ctypes import CDLL
counts = [0, 0]
def count(number):
    CDLL(None).prctl(15, b'counter%d' % number)
    while True:
        counts[number] += 1
        time.sleep(0.001)
for number in (0, 1):
    threading.Thread(target=count, args=(number,), daemon=True).start()
for _line in sys.stdin:
    print(*counts, flush=True)
'''

# Stands for host/run: says what its last arguments are, and ends as told.
HOST = f'''#!/bin/sh
for last; do :; done
echo "$@" >>"$0.asked"
number=$(sed 's/.*--first \\([0-9]*\\).*/\\1/' <<END
$*
END
)
echo '{MARK}{{"starts": '"$number"'}}'
echo something is said
echo '{MARK}{{"ended": '"$number"', "outcome": "over", "seconds": 1.5}}'
case " $* " in
*' --runs 1 '*) exit ;;
esac
number=$((number + 1))
echo '{MARK}{{"starts": '"$number"'}}'
echo "it goes wrong"
@END@
'''


class PlanTest(unittest.TestCase):
    """What is drawn."""

    def test_the_same_again(self) -> None:
        self.assertEqual(str(draw(7, 3)), str(draw(7, 3)))
        self.assertEqual(draw(7, 3).features(), draw(7, 3).features())
        self.assertNotEqual(str(draw(7, 3)), str(draw(7, 4)))
        self.assertNotEqual(str(draw(7, 3)), str(draw(8, 3)))

    def test_guests(self) -> None:
        """Some runs have one, and all else is drawn for each."""
        plans = [draw(7, number) for number in range(100)]
        guests = {plan.guest: (plan.device, plan.backing, plan.vcpus,
                               plan.processor, plan.oob) for plan in plans}
        self.assertEqual(len(guests), 100 // SAME_GUEST)
        for plan in plans:
            self.assertEqual(guests[plan.guest],
                             (plan.device, plan.backing, plan.vcpus,
                              plan.processor, plan.oob))
        self.assertEqual(len({str(plan) for plan in plans}), 100)
        self.assertNotEqual(draw(8, 0).guest, plans[0].guest)

    def test_all_is_drawn(self) -> None:
        features = {feature for number in range(4000)
                    for plan in [draw(1, number)]
                    for feature in [*plan.features(), *plan.happens()]}
        for name in DEVICE_NAMES:
            self.assertIn(f'device {name}', features)
        for name in fitting(MEMORY):
            self.assertIn(f'memory {name}', features)
        for name in HOSTS:
            self.assertIn(f'host {name}', features)
        for name in PROCESSORS:
            self.assertIn(f'processor {name}', features)
        for name in ('preempt', 'no preempt', 'tls', 'oob', 'blocktime',
                     'oracle', '1 vCPUs', '4 vCPUs', 'packets lost',
                     'nothing', 'cut', 'cut, reset', 'cut, silent',
                     'cut, and again', *FAULTS):
            self.assertIn(name, features)

    def test_all_has_words(self) -> None:
        self.assertEqual(list(FAULTS), list(KINDS))

    def test_what_is_encrypted_is_not_cut(self) -> None:
        plans = [draw(2, number) for number in range(300)]
        self.assertTrue(any(plan.tls for plan in plans))
        self.assertFalse(any(plan.tls and plan.point for plan in plans))


class FreezeTest(unittest.TestCase):
    """One thread stands still."""

    def setUp(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-c', COUNTERS], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.process.communicate)
        self.counts()

    def counts(self) -> List[int]:
        """How far both are."""
        assert self.process.stdin and self.process.stdout
        print(file=self.process.stdin, flush=True)
        return [int(word) for word in self.process.stdout.readline().split()]

    def thread(self, name: str) -> int:
        """It has that name once it runs."""
        deadline = time.monotonic() + 10
        while not (found := threads(self.process.pid, name)):
            self.assertLess(time.monotonic(), deadline)
        return found[0]

    def test_only_one(self) -> None:
        with frozen(self.thread('counter0')):
            before = self.counts()
            time.sleep(0.2)
            during = self.counts()
            time.sleep(0.2)
            after = self.counts()
        self.assertEqual(during[0], after[0])
        self.assertGreater(after[1], before[1])
        deadline = time.monotonic() + 10
        while self.counts()[0] == after[0]:
            self.assertLess(time.monotonic(), deadline)

    def test_one_that_has_ended(self) -> None:
        ended = subprocess.Popen(['true'])
        ended.wait()
        with frozen(ended.pid):
            pass
        self.assertEqual(threads(self.process.pid, 'nobody'), [])


class PagesTest(unittest.TestCase):
    """What the host does with the pages of a process."""

    def setUp(self) -> None:
        self.memory = mmap.mmap(-1, 64 * pages.PAGE)
        self.wanted = bytes(at // pages.PAGE % 251
                            for at in range(len(self.memory)))
        self.memory[:] = self.wanted

    def test_contents_stay(self) -> None:
        pages.page_out(os.getpid())
        self.assertEqual(self.memory[:], self.wanted)

    def test_frames_of_the_largest_mapping(self) -> None:
        """Of which only root gets to know."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.assertTrue(any(
            low <= start < low + length
            for low, length in pages.mappings(os.getpid())))
        with unittest.mock.patch.object(pages, 'mappings', return_value=[
                (0, pages.PAGE), (start, len(self.memory))]):
            found = list(pages.frames(os.getpid(), 8))
        self.assertEqual(len(found), 0 if os.getuid() else 8)

    def test_one_that_has_ended(self) -> None:
        ended = subprocess.Popen(['true'])
        ended.wait()
        pages.page_out(ended.pid)
        self.assertEqual(list(pages.frames(ended.pid, 8)), [])


class LimitsTest(unittest.TestCase):
    """What a host's cgroups are told."""

    def test_limited(self) -> None:
        with tempfile.TemporaryDirectory() as folder, \
             unittest.mock.patch.object(limits, 'CGROUPS', Path(folder)):
            group = Path(folder, 'campaign')
            with limits.limited(7, 4):
                self.assertEqual(Path(
                    folder, 'cgroup.subtree_control').read_text(), '+memory')
                self.assertEqual((group / 'memory.high').read_text(),
                                 str(4 << 20))
                self.assertEqual((group / 'cgroup.procs').read_text(), '7')
            self.assertEqual((group / 'memory.high').read_text(), 'max')
            self.assertEqual(Path(folder, 'cgroup.procs').read_text(), '7')


class RunTest(unittest.TestCase):
    """What is told of runs, and kept."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        (self.top / 'host').mkdir()
        self.results = self.top / 'results'

    def campaign(self, end: str, *options: str) -> 'tuple[int, str]':
        """Run one; its exit status, and what it says."""
        host = self.top / 'host/run'
        host.write_text(HOST.replace('@END@', end), encoding='utf-8')
        host.chmod(0o755)
        said = io.StringIO()
        with unittest.mock.patch.object(run, 'TOP', self.top), \
             unittest.mock.patch.object(sys, 'argv', [
                 'campaign', '--seed', '5', '--output', str(self.results),
                 *options]), contextlib.redirect_stdout(said):
            return run.work(), said.getvalue()

    def test_one_fails(self) -> None:
        failed = (f"echo '{MARK}" '{"ended": '"'\"$number\"'"
                  ", \"outcome\": null, \"seconds\": 2}'")
        status, said = self.campaign(failed, '--runs', '2', '--first', '40')
        self.assertEqual(status, 1)
        lines = said.splitlines()
        self.assertTrue(lines[0].startswith('ok     5/40: '), lines)
        self.assertTrue(lines[0].endswith(': over; 2 s'), lines)
        self.assertTrue(lines[1].startswith('FAILED 5/41: '), lines)
        self.assertEqual(lines[-1], '2 runs, 1 failed')
        log = (self.results / '5-41.log').read_text(encoding='utf-8')
        self.assertIn('it goes wrong', log)
        self.assertNotIn('something is said', log)
        self.assertFalse((self.results / '5-40.log').exists())
        records = json.loads((self.results / '5-40.json').read_text('utf-8'))
        self.assertEqual([record['outcome'] for record in records],
                         ['over', None])

    def test_fail_fast(self) -> None:
        """The host has ended there; no other one is asked."""
        failed = (f"echo '# GuestError: the guest says WRONG'; echo '{MARK}"
                  '{"ended": '"'\"$number\"'"
                  ", \"outcome\": null, \"seconds\": 2}'")
        status, said = self.campaign(failed, '--runs', '30', '--fail-fast')
        self.assertEqual((status, said.splitlines()[-1]),
                         (1, '2 runs, 1 failed'))
        asked = (self.top / 'host/run.asked').read_text('utf-8').splitlines()
        self.assertEqual(len(asked), 1)
        self.assertIn(' --fail-fast', asked[0])
        record = json.loads((self.results / '5-0.json').read_text('utf-8'))[-1]
        self.assertEqual(record['why'], 'GuestError: the guest says WRONG')

    def test_the_host_dies(self) -> None:
        """The run that it died in has failed, and others take a new host."""
        _status, said = self.campaign('exit 125', '--runs', '3')
        self.assertIn('ok     5/0', said)
        self.assertIn('FAILED 5/1', said)
        self.assertIn('ok     5/2', said)
        log = (self.results / '5-1.log').read_text(encoding='utf-8')
        self.assertIn('status 125', log)

    def test_all_together(self) -> None:
        self.campaign('exit 125', '--runs', '3')
        self.campaign('exit 0', '--runs', '1', '--first', '7')
        self.campaign('exit 0', '--runs', '1', '--seed', '6')
        digests = by_seed(load(self.results))
        self.assertEqual({seed: one['runs'] for seed, one in digests.items()},
                         {'5': 4, '6': 1})
        found = total(digests.values())
        self.assertEqual(found['runs'], 5)
        self.assertEqual(found['outcomes'], {'over': 4})
        self.assertEqual(
            [(run['seed'], run['number']) for run in found['failed']],
            [(5, 1)])
        plans = [*(draw(5, number) for number in (0, 1, 2, 7)), draw(6, 0)]
        names = [f'device {plan.device}' for plan in plans]
        for name in names:
            self.assertEqual(found['with'][name][0], names.count(name))
        self.assertEqual(
            found['with'][f'device {draw(5, 1).device}'][1], 1)

    def test_no_time_is_left(self) -> None:
        with unittest.mock.patch('kuf.campaign.run.time.monotonic',
                                 side_effect=[0, 3, 10]):
            _status, said = self.campaign('exit 125', '--time', '5')
        self.assertEqual(said.splitlines()[-1], '4 runs, 2 failed')
        asked = (self.top / 'host/run.asked').read_text('utf-8').splitlines()
        self.assertEqual([line.split('--time ')[1] for line in asked],
                         ['5', '2'])

    def test_no_run_is_begun(self) -> None:
        """The host ends in order: there was no time."""
        with unittest.mock.patch('kuf.campaign.inside.MARK', 'nothing: '):
            status, said = self.campaign('exit 0', '--runs', '1')
        self.assertEqual((status, said), (1, '0 runs, 0 failed\n'))
