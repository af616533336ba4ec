# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrate a guest with libvirt, from one host to another.

In the emulated host: host/run -- host/libvirt [OPTIONS] CASE...

The two hosts are containers with Debian's libvirt as it is, and QEMU of this
build, or in debian-13-installed that of the packages.  The guest writes to its
memory all the time and checks it.  QEMU is not root, and has no userfaultfd
unless libvirt gives it one: libvirt's namespaces, cgroups and seccomp filter
are on, and AppArmor where the kernel has it.

A case has passed if the guest went on and never saw wrong memory, if the right
way of postcopy was used, and if libvirt's daemons complained of nothing that is
not listed with the case.  Output is TAP.

    host/libvirt --publish

anywhere, brings docs/reliability.md up to date with what has run.
"""

import argparse
from pathlib import Path
import re
import time
from typing import List, Optional

from kuf import cli, tap
from kuf.build import installed
from kuf.cli import positive
from kuf.guest.machine import GuestError
from kuf.modes import KVM_USERFAULT, USERFAULTFD
from kuf.paths import RESULTS
from kuf.published import publish_more
from kuf.virt import results
from kuf.virt.cases import (
    ASKED,
    CASES,
    STARTED,
    Case,
)
from kuf.virt.domain import (
    CONSOLE,
    EXPLICIT,
    LOG,
    WORK,
)
from kuf.virt.hosts import Host
from kuf.virt.network import connect
from kuf.virt.refusals import refusal
from kuf.virt.scene import Scene, Side


PROG = 'host/libvirt'

# What is asked of a host in which something went wrong.
NETWORK = (('ss', '-tnoi'), ('ip', 'neighbour'), ('ip', '-brief', 'link'))

DEBIANS = ('libvirt-12', 'libvirt-13', installed.NAME)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(PROG, __doc__)
    parser.add_argument('--debian', metavar='NAME', nargs='+',
                        default=[DEBIANS[0]], choices=DEBIANS,
                        help='whose libvirt the hosts have, or of the first '
                        f"and of the second one, of: {', '.join(DEBIANS)} "
                        f'[{DEBIANS[0]}]')
    parser.add_argument('--times', metavar='N', type=positive, default=1,
                        help='run each case so often [1]')
    parser.add_argument('--output', metavar='DIR', type=Path,
                        default=RESULTS / 'libvirt',
                        help='what has run, and failed '
                        '[build/results/libvirt]')
    parser.add_argument('--publish', action='store_true',
                        help='run nothing: bring docs/reliability.md up to '
                        'date with all in --output, beside what it has')
    parser.add_argument('--verbose', action='store_true',
                        help='show what was said, by all')
    parser.add_argument('case', metavar='CASE', nargs='*',
                        help='of: ' + ', '.join(CASES))
    args = parser.parse_args()
    for name in args.case:
        if name not in CASES:
            parser.error(f"no case is called '{name}'; there are: "
                         f"{', '.join(CASES)}")
    if not args.case and not args.publish:
        parser.error(f"which case?  There are: {', '.join(CASES)}")
    return args


def create(debians: List[str]) -> Scene:
    """Two hosts with libvirt."""
    hosts = [Host('alpha', debians[0], '10.7.0.1'),
             Host('beta', debians[-1], '10.7.0.2')]
    connect(hosts)
    tap.comment('two hosts run')
    return Scene(*(Side(host) for host in hosts))


def place(scene: Scene) -> str:
    """Which libvirt migrates, and what its kernel does not have."""
    versions: List[str] = []
    for side in scene.sides:
        version = side.libvirt.version()
        if version not in versions:
            versions.append(version)
    lacks = '' if Path('/dev/userfaultfd').exists() else ', no userfaultfd'
    return f"libvirt {' to '.join(versions)}{lacks}"


def wanted(case: Case, destination: Host) -> str:
    """The way of postcopy; Debian 13's libvirt gives QEMU the device."""
    if case.domain.command_line == EXPLICIT or not (
            destination.debian != 'libvirt-12'
            and destination.path('/dev/userfaultfd').exists()):
        return KVM_USERFAULT
    return USERFAULTFD


def check_confined(side: Side) -> None:
    """QEMU runs as libvirt's user, and is as shut in as libvirt can have it."""
    pid = side.qemu()
    status = dict(re.findall(r'^(\w+):\t(\S+)', Path(
        f'/proc/{pid}/status').read_text(encoding='utf-8'), re.M))
    user = str(side.host.uid('libvirt-qemu'))
    if (status['Uid'], status['CapEff'], status['Seccomp']) != (
            user, '0' * 16, '2'):
        raise GuestError(f'QEMU in {side.host.name} has {status}')
    cgroup = Path(f'/proc/{pid}/cgroup').read_text(encoding='utf-8').strip()
    if not cgroup.startswith(f'0::/{side.host.name}/machine/'):
        raise GuestError(f'QEMU in {side.host.name} is in cgroup {cgroup}')
    if Path(f'/proc/{pid}/ns/mnt').readlink() == \
            Path(f'/proc/{side.host.pid}/ns/mnt').readlink():
        raise GuestError(f'QEMU in {side.host.name} has no mounts of its own')
    if side.host.confined:
        check_profile(side, pid)


def check_profile(side: Side, pid: int) -> None:
    """AppArmor shuts QEMU in as libvirt has told it to."""
    label = Path(f'/proc/{pid}/attr/current').read_text('utf-8').strip('\n\0')
    profile = rf':{side.host.name}:libvirt-[0-9a-f-]{{36}} \(enforce\)'
    if not re.fullmatch(profile, label):
        raise GuestError(f'QEMU in {side.host.name} is confined by {label}')


def check_daemons(side: Side, expected: List[str]) -> None:
    """libvirtd complained of nothing else."""
    for complaint in side.daemons.complaints():
        if not any(re.search(pattern, complaint) for pattern in expected):
            raise GuestError(f'libvirtd in {side.host.name} says: {complaint}')


def attempt(scene: Scene, case: Case) -> str:
    """Run a case; returns what there is to say."""
    case.prepare(scene)
    scene.start(case.domain)
    check_confined(scene.source)
    case.run(scene)
    if case.refused:
        said = check_refusal(case.refused, scene)
    else:
        said = scene.check_backend(wanted(case, scene.destination.host))
        check_confined(scene.destination)
        if case.figures:
            scene.check_completed()
    for side in scene.sides:
        check_daemons(side, [*STARTED, *ASKED, *case.expected])
    return said


def check_refusal(name: str, scene: Scene) -> str:
    """virsh says what the operators' page has."""
    wanted_text = refusal(name, scene.destination.host.debian)
    if scene.said != wanted_text:
        raise GuestError(f"virsh says '{scene.said}', not '{wanted_text}'")
    return scene.said


def logs(scene: Scene) -> str:
    """What was said, by all."""
    text = ''
    for side in scene.sides:
        text += f'libvirtd, {side.host.name}:\n{side.daemons.said()}\n'
        for name in (LOG, CONSOLE, WORK):
            text += f'{name}, {side.host.name}:\n'
            text += '\n'.join(side.host.read(name).splitlines()[-20:]) + '\n'
        for command in NETWORK:
            text += f"{' '.join(command)}, {side.host.name}:\n"
            text += side.host.run(*command)
    return text


def publish_all(args: argparse.Namespace) -> int:
    """All that has run, as a document."""
    publish_more('libvirt', args.output, 'default', results.load(args.output))
    return 0


def run_all(args: argparse.Namespace) -> int:
    """All cases asked for."""
    names = [name for name in args.case for _ in range(args.times)]
    path = args.output / f'{time.time_ns()}.json'
    tap.plan(len(names))
    scene: Optional[Scene] = None
    where = ''
    runs: results.Runs = {}
    failed = 0
    for number, name in enumerate(names, 1):
        said: Optional[str] = None
        start = time.monotonic()
        try:
            scene = scene or create(args.debian)
            where = where or place(scene)
            said = attempt(scene, CASES[name])
        except (cli.Failure, OSError) as exc:
            tap.comment(str(exc))
        if scene and (args.verbose or said is None):
            tap.comment(logs(scene))
        failed += said is None
        if where:
            results.count(runs, where, name, said is None)
            results.keep(path, runs)
        tap.result(number, said is not None, name + (
            f': {said}; {time.monotonic() - start:.0f} s' if said else ''))
        if scene and said is not None:
            scene.clean()
        elif scene:
            scene.close()
            scene = None
    return int(failed > 0)


def work() -> int:
    """What is asked for."""
    args = parse_args()
    return publish_all(args) if args.publish else run_all(args)


def main() -> int:
    """The program."""
    return cli.run(PROG, work)
