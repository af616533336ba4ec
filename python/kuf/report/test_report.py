# SPDX-License-Identifier: GPL-2.0-or-later
"""What demo/report.py makes of numbers, without any migration."""

import copy
from html.parser import HTMLParser
import json
import math
from pathlib import Path
import random
import re
import subprocess
import tempfile
from typing import (
    Any,
    Dict,
    List,
    Optional,
    Tuple,
)
import unittest
from unittest import mock
from xml.etree import ElementTree

from kuf.paths import TOP
from kuf.report import (
    figures,
    page,
    plots,
    screen,
)


TWO = ['userfaultfd', 'kvm-userfault']
FOUR = ['userfaultfd', 'userfaultfd+preempt', 'kvm-userfault',
        'kvm-userfault+preempt']
WRONG = ('kvm-userfault, round 1, failed in verification: the guest in the '
         '2-kvm-userfault says: WRONG stress: pass 3, page 17, word 2: '
         '0000000000000001, not 0000000000000002; logs are in build/demo/logs')
PLOTS = ['latency', 'latency-tail', 'downtime', 'last-page', 'latency-p99',
         'calls', 'switches', 'huge']


def guest_rates(rng: random.Random, end: float) -> List[List[float]]:
    """The guest's rate: as before, low, and better and better."""
    points = []
    for when in range(-4500, int(end) + 3000, 250):
        level = (20000 if when < -2500 else 14000 if when < 0 else
                 3000 + 17000 * (min(1, when / end)) ** 2)
        points.append([when + rng.uniform(-9, 9), level * rng.gauss(1, 0.05)])
    return points


def wait_buckets(rng: random.Random, centre: float) -> List[List[float]]:
    """Waits around some ns, four buckets for each power of two."""
    counts: Dict[int, int] = {}
    for _ in range(2000):
        wait = max(32768.0, rng.lognormvariate(math.log(centre), 0.8))
        index = int(4 * math.log2(wait))
        counts[index] = counts.get(index, 0) + 1
    return [[2 ** (index / 4), 2 ** ((index + 1) / 4), counts[index]]
            for index in sorted(counts)]


def synthetic_run(mode: str, number: int) -> Dict[str, Any]:
    """A migration that went well."""
    rng = random.Random(f'{mode} {number}')
    new = mode.startswith('kvm')
    end = (3100 if new else 4200) * rng.gauss(1, 0.06)
    centre = (180e3 if new else 320e3) * (0.6 if '+' in mode else 1)
    buckets = wait_buckets(rng, centre)
    placing = {'read': 3000, 'futex': 900} if new else {
        'read': 3000, 'ioctl': 31000, 'poll': 2100}
    return {
        'mode': mode, 'round': number, 'ok': True, 'error': None,
        'verified_pages': 20480, 'checked_pages': 123456,
        'precopy_ms': 2470.0, 'downtime_ms': 35.0 + 2 * number,
        'postcopy_ms': end, 'memory_kb': 262144, 'pages_placed': 30321,
        'requests': 2000 + 100 * number,
        'vcpu_faults': 2050 + number if new else None,
        'ram_waits': 55 if new else None,
        'waits_ms': {'vcpu': 301.5, 'device': 7, 'before_devices': 12}
        if new else None,
        'latency': {'buckets': buckets, 'p50_ns': centre, 'p99_ns': 7 * centre,
                    'max_ns': 30 * centre},
        'stalls': [[120.0, 1200]],
        'syscalls': {'placing': placing, 'other': {'ppoll': 800},
                     'vcpu': {'ioctl': 5100}},
        'syscalls_per_page': sum(placing.values()) / 30321,
        'userfaultfd_calls': 0 if new else 1,
        'context_switches': {'voluntary': 6000, 'involuntary': 900,
                             'per_page': 0.12 if new else 0.29},
        'huge_before_kb': 200 << 10,
        'huge_after_kb': (184 if new else 12) << 10,
        'rate': guest_rates(rng, end),
        'marks': {'start': -2500.0, 'stopped': -35.0, 'resumed': 0.0,
                  'completed': end},
    }


def synthetic(modes: List[str], count: int = 1) -> Dict[str, Any]:
    """A report as demo/run writes it."""
    return {
        'schema': 1, 'date': '2026-11-25T12:00:00Z', 'emulated': True,
        'clock': 'wall',
        'host': {'kernel': '6.12.117', 'cpus': 1, 'memory_mb': 3900,
                 'cpu': 'QEMU TCG CPU version 2.5+', 'qemu': '10.0.2'},
        'guest': {'kernel': '6.1.0-40-cloud-amd64', 'vcpus': 2,
                  'memory_mb': 256, 'backing': 'thp', 'threads': 2,
                  'own_mb': 32, 'shared_mb': 16, 'order': 'random',
                  'write_percent': 90,
                  'devices': ['virtio-blk', 'virtio-net']},
        'link': {'bandwidth': 256 << 20, 'postcopy_bandwidth': None,
                 'rtt_us': 0},
        'modes': list(modes),
        'runs': [synthetic_run(mode, number)
                 for number in range(1, count + 1) for mode in modes],
    }


def failed_run(error: Optional[str]) -> Dict[str, Any]:
    """All that there is of a migration that failed."""
    return {'mode': 'kvm-userfault', 'round': 1, 'ok': False, 'error': error}


def failed(error: Optional[str]) -> Dict[str, Any]:
    """A report with such a one."""
    data = synthetic(TWO)
    data['runs'][1] = failed_run(error)
    return data


def without_numbers() -> Dict[str, Any]:
    """A report in which all that may be missing is missing."""
    data = synthetic(TWO)
    for run in data['runs']:
        run.update(vcpu_faults=None, ram_waits=None, waits_ms=None,
                   latency=None,
                   syscalls=None, syscalls_per_page=None,
                   userfaultfd_calls=None, rate=[], stalls=[],
                   context_switches=None, huge_before_kb=0, huge_after_kb=0)
    return data


def partial() -> List[Dict[str, Any]]:
    """Reports that some part is missing of."""
    full = synthetic(TWO)
    reports: List[Dict[str, Any]] = [
        {'schema': 1}, {'schema': 1, 'runs': []},
        {**full, 'runs': []},
        {**full, 'runs': [failed_run(None)]}]
    for name in full:
        if name != 'schema':
            reports.append({key: value for key, value in full.items()
                            if key != name})
    for name in full['runs'][0]:
        less = copy.deepcopy(full)
        del less['runs'][0][name]
        reports.append(less)
    return reports


def row(text: str, label: str) -> List[str]:
    """The cells of a line of the screen."""
    found = [line[screen.LABEL:].split() for line in text.splitlines()
             if line.startswith(label)]
    return found[0]


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> List[Dict[str, Optional[str]]]:
        """Attributes of all elements of a name."""
        return [attrs for tag, attrs in self.tags if tag == name]


def rows_of(text: str, kind: str) -> List[List[str]]:
    """The lines of the page's table of a kind, as texts of cells."""
    tree = ElementTree.fromstring(text.partition('\n')[2])
    return [[''.join(part.itertext()) for part in line]
            for table in tree.iter('div') if table.get('class') == kind
            for line in table.iter('tr')]


class Screen(unittest.TestCase):
    """The text."""

    def check_size(self, text: str) -> None:
        """It fits a screen of old."""
        lines = text.splitlines()
        self.assertLessEqual(len(lines), 24, text)
        self.assertLessEqual(max(map(len, lines)), 80, text)
        self.assertTrue(text.isascii())

    def test_fits(self) -> None:
        """Two modes and four, wall clock and instructions."""
        for modes in (TWO, FOUR):
            data = synthetic(modes, 3)
            for clock in ('wall', 'instructions'):
                self.check_size(screen.summary({**data, 'clock': clock}))

    def test_medians(self) -> None:
        """Each column has its mode's numbers, the median of three."""
        text = screen.summary(synthetic(FOUR, 3))
        self.assertEqual(row(text, 'downtime'), ['39.0'] * 4)
        self.assertEqual(row(text, 'vCPU faults'),
                         ['-', '-', '2,052', '2,052'])
        self.assertEqual(row(text, 'latency p50'),
                         ['320', '192', '180', '108'])
        self.assertEqual(row(text, 'system calls'),
                         ['1.19', '1.19', '0.129', '0.129'])
        self.assertEqual(row(text, 'userfaultfd calls'), ['1', '1', '0', '0'])
        self.assertEqual(row(text, 'memory in huge pages'),
                         ['4.69', '4.69', '71.9', '71.9'])
        self.assertEqual(row(text, 'memory verified'), ['20,480'] * 4)

    def test_rate(self) -> None:
        """Rates are those of the time since the point before."""
        data = synthetic(TWO)
        for run in data['runs']:
            run['rate'] = [[-3000, 100], [-2500, 300], [0, 7], [100, 60],
                           [300, 30], [400, 1000]]
            run['marks'] = {'start': -2500.0, 'stopped': -5, 'resumed': 0,
                            'completed': 300}
        text = screen.summary(data)
        self.assertEqual(row(text, 'guest rate, pages/s'), ['40.0'] * 2)
        self.assertEqual(row(text, 'guest rate, % of'), ['20.0'] * 2)

    def lost(self, points: List[List[float]]) -> float:
        """What such a guest has lost, in seconds."""
        run = synthetic_run('userfaultfd', 1)
        run['rate'] = [[-5000, 100], [-3000, 100], [-500, 50], *points]
        run['marks'] = {'start': -3000.0, 'stopped': -500, 'resumed': 0,
                        'completed': 900}
        found = figures.time_lost(run)
        assert found is not None
        return round(found, 6)

    def test_time_lost(self) -> None:
        """Work that was not done, from the stop until it is as before."""
        # Down for 0.5 s, and half as fast for 1 s.
        self.assertEqual(self.lost([[0, 0], [1000, 50], [3000, 100]]), 1)
        # 95 % is as before, 94 % is not.
        self.assertEqual(self.lost([[0, 0], [1000, 50], [3000, 95]]), 1)
        self.assertEqual(self.lost([[0, 0], [1000, 50], [3000, 94]]), 1.12)
        # A moment is not enough: it has to last.
        self.assertEqual(self.lost([[0, 0], [500, 0], [600, 100], [1000, 0],
                                    [1500, 100], [3000, 100]]), 1.4)
        # It is never back.
        self.assertEqual(self.lost([[0, 0], [4000, 25]]), 3.5)
        # It was only down.
        self.assertEqual(self.lost([[0, 0], [4000, 100]]), 0.5)

    def test_emulated(self) -> None:
        """It says what times are."""
        data = synthetic(TWO)
        self.assertIn('Times are those of an emulated host',
                      screen.summary(data))
        data['emulated'] = False
        self.assertNotIn('emulated', screen.summary(data))

    def test_instructions(self) -> None:
        """Nothing is called a time."""
        text = screen.summary({**synthetic(TWO), 'clock': 'instructions'})
        self.assertEqual(row(text, 'downtime, Minsn'), ['37.0'] * 2)
        self.assertNotRegex(text, r', (ms|us)\b|pages/s')

    def test_nulls(self) -> None:
        """What was not measured is a dash."""
        text = screen.summary(without_numbers())
        for label in ('vCPU faults', 'latency p50', 'latency max',
                      'system calls', 'userfaultfd calls', 'context switches',
                      'guest rate', 'guest time lost'):
            self.assertEqual(row(text, label), ['-', '-'])
        self.assertIn('PASS', text)

    def test_failures(self) -> None:
        """All are there if they fit, and counted if they don't."""
        text = screen.summary(failed('kvm-userfault fell over.'))
        self.assertIn('FAILED: 1 of 2 migrations failed.', text)
        self.assertIn('* kvm-userfault fell over.', text)
        data = synthetic(FOUR, 2)
        for run in data['runs']:
            run.update(ok=False, error='all of this went wrong; ' * 12)
        self.check_size(screen.summary(data))
        self.assertIn('more failures', screen.summary(data))

    def test_partial(self) -> None:
        """Nothing that may be missing must be there."""
        for data in partial():
            self.check_size(screen.summary(data))


class Verdict(unittest.TestCase):
    """What is said of all of it."""

    def test_pass(self) -> None:
        """All is well."""
        result = figures.verdict(synthetic(TWO))
        self.assertTrue(result.good)
        self.assertIn('no userfaultfd call', result.text)

    @mock.patch.object(page, 'svg', return_value='')
    def test_wrong_memory(self, _: mock.Mock) -> None:
        """It is said loudly, on the screen and on the page."""
        data = failed(WRONG)
        text = screen.summary(data)
        self.assertIn('FAILED: the guest found WRONG DATA in 1 of 2', text)
        self.assertEqual(row(text, 'memory verified'), ['20,480', 'FAILED'])
        text_page = page.html(data)
        self.assertIn('<div class="verdict bad"><strong>FAILED', text_page)
        self.assertIn('WRONG DATA', text_page)

    def test_not_verified(self) -> None:
        """That nothing was found wrong is not enough."""
        data = synthetic(TWO)
        data['runs'][0]['verified_pages'] = 0
        result = figures.verdict(data)
        self.assertFalse(result.good)
        self.assertIn('NOT VERIFIED', result.text)

    def test_userfaultfd(self) -> None:
        """KVM userfault has to do without."""
        data = synthetic(TWO)
        data['runs'][1]['userfaultfd_calls'] = 3
        self.assertIn('3 userfaultfd calls', figures.verdict(data).text)

    def test_not_done(self) -> None:
        """A mode that never had its turn."""
        data = synthetic(TWO)
        del data['runs'][1]
        self.assertEqual(figures.verdict(data),
                         (False, 'FAILED', 'not done: kvm-userfault'))

    def test_nothing(self) -> None:
        """No migration at all."""
        self.assertFalse(figures.verdict({'schema': 1}).good)


class Html(unittest.TestCase):
    """The page."""

    def check_page(self, data: Dict[str, Any]) -> Page:
        """It is well-formed, has all plots, and refers to nothing outside."""
        text = page.html(data)
        ElementTree.fromstring(text.partition('\n')[2])
        self.assertEqual(set(re.findall(r'https?://[^"\s<]*', text)),
                         {'http://www.w3.org/2000/svg'})
        text_page = Page(text)
        self.assertFalse(text_page.all('script') + text_page.all('link')
                         + text_page.all('img'))
        ids = [attrs['id'] for _, attrs in text_page.tags if 'id' in attrs]
        self.assertEqual(len(ids), len(set(ids)))
        for target in re.findall(r'(?:url\(|href=")#([^")]*)', text):
            self.assertIn(target, ids)
        for index in range(len(figures.all_modes(data))):
            self.assertIn(f'rate-{index}', ids)
        self.assertLessEqual(set(PLOTS), set(ids))
        for attrs in text_page.all('svg'):
            self.assertTrue(attrs.get('aria-label') or
                            attrs.get('aria-hidden'))
        self.assertEqual(len(text_page.all('table')),
                         len(text_page.all('caption')))
        # Each colour is one that the text_page's style sheet has a value for.
        self.assertNotIn('#0a0', text)
        self.assertLessEqual(set(re.findall(r'var\((--[\w-]+)\)', text)),
                             set(re.findall(r'(--[\w-]+):', text)))
        return text_page

    def test_four_modes(self) -> None:
        """Several rounds of all modes."""
        text_page = self.check_page(synthetic(FOUR, 3))
        self.assertEqual(len(text_page.all('svg')), 4 + len(PLOTS) + 4)

    @mock.patch.object(page, 'svg', return_value='')
    def test_medians(self, _: mock.Mock) -> None:
        """The table has the same numbers as the data, and ratios."""
        rows = {cells[0]: cells[1:] for cells in rows_of(
            page.html(synthetic(FOUR, 3)), 'table medians')}
        self.assertEqual(rows['figure'], FOUR)
        self.assertEqual(rows['downtime, ms'],
                         ['39.0', '39.0', '39.0×1.00', '39.0×1.00'])
        # With preemption, compared with userfaultfd with preemption.
        self.assertEqual(rows['latency p50, us'],
                         ['320', '192', '180×0.56', '108×0.56'])
        self.assertEqual(rows['vCPU faults'], ['-', '-', '2,052', '2,052'])

    @mock.patch.object(page, 'svg', return_value='')
    def test_runs(self, _: mock.Mock) -> None:
        """Each migration has a row, in the order in which they were done."""
        rows = rows_of(page.html(synthetic(TWO, 2)), 'table runs')
        self.assertEqual([cells[0] for cells in rows[1:]],
                         ['userfaultfd, 1', 'kvm-userfault, 1',
                          'userfaultfd, 2', 'kvm-userfault, 2'])
        downtime = rows[0].index('downtime, ms')
        self.assertEqual([cells[downtime] for cells in rows[1:]],
                         ['37.0', '37.0', '39.0', '39.0'])

    def test_best(self) -> None:
        """The least latency, and the highest rate; not if all are the same."""
        data = synthetic(FOUR, 3)
        self.assertEqual(page.best_modes(data, figures.LATENCY[0]),
                         ['kvm-userfault+preempt'])
        self.assertEqual(page.best_modes(data, figures.HUGE),
                         ['kvm-userfault', 'kvm-userfault+preempt'])
        self.assertEqual(page.best_modes(data, figures.DOWNTIME), [])
        self.assertEqual(page.best_modes(data, figures.FAULTS), [])

    def test_failed_run(self) -> None:
        """It has its error, and all else is there."""
        data = failed('it <fell> "over" & out')
        rows = rows_of(self.check_page(data).text, 'table runs')
        self.assertEqual(rows[2], ['kvm-userfault, 1', 'failed',
                                   'it <fell> "over" & out'])
        self.assertEqual(rows[1][1], 'ok')

    def test_nulls(self) -> None:
        """Plots of nothing say so."""
        text_page = self.check_page(without_numbers())
        self.assertIn('not measured', text_page.text)

    def test_partial(self) -> None:
        """Nothing that may be missing must be there."""
        with mock.patch.object(page, 'svg', return_value=''):
            for data in partial():
                page.html(data)
        self.check_page({'schema': 1})

    def test_instructions(self) -> None:
        """Nothing is called a time."""
        data = {**synthetic(TWO), 'clock': 'instructions'}
        text = self.check_page(data).text
        self.assertIn('Ginsn since the guest', text)
        self.assertNotRegex(text, r', (ms|us)\b|pages/s\b|\d us\b')

    def test_repeatable(self) -> None:
        """The same numbers make the same page."""
        first, second = (
            [plots.svg(plot) for plot in (*plots.rate_plots(data),
                                          *plots.latency_plots(data))]
            for data in (synthetic(TWO), synthetic(TWO)))
        self.assertEqual(first, second)


class CommandLine(unittest.TestCase):
    """The program."""

    def run_report(self, text: str) -> 'subprocess.CompletedProcess[str]':
        """Run it on a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'report.json'
            path.write_text(text, encoding='utf-8')
            result = subprocess.run(
                [TOP / 'demo/report.py', path, '--html', f'{folder}/page.html'],
                capture_output=True, encoding='utf-8', check=False)
            if result.returncode == 0:
                Page((Path(folder) / 'page.html').read_text(
                    encoding='utf-8'))
            return result

    def test_report(self) -> None:
        """The screen, and the page."""
        result = self.run_report(json.dumps(synthetic(TWO)))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout,
                         screen.summary(synthetic(TWO)) + '\n')

    def test_refused(self) -> None:
        """What it can't read is refused in a sentence."""
        for text, reason in (('{"schema": 2}', 'schema 2'),
                             ('[]', 'schema None'), ('{', 'not JSON')):
            result = self.run_report(text)
            self.assertEqual(result.returncode, 1)
            self.assertIn(reason, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1)


if __name__ == '__main__':
    unittest.main()
