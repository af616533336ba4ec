# SPDX-License-Identifier: GPL-2.0-or-later
"""
Hosts that have libvirt, in the emulated host: containers with namespaces of
their own, each with a Debian as its root.

A Debian is a folder of build/.  What a host writes goes to memory.  QEMU is the
one of this build, in the place of Debian's, or that of the packages where they
are installed.  Where the kernel has AppArmor, each host has its own policies.
"""

import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
from typing import (
    Any,
    Callable,
    Dict,
    List,
)

from kuf.architectures import native
from kuf.build import installed
from kuf.build.install import PROGRAM
from kuf.cli import Failure
from kuf.guest.machine import pauses
from kuf.paths import BUILD, require
from kuf.process import WITH_US, Word


HOSTS = Path('/run/hosts')
CGROUPS = Path('/sys/fs/cgroup')
CONTROLLERS = '+cpuset +cpu +io +memory +pids'
GUEST = BUILD / 'guest-cloud'
IMAGES = {'kernel': GUEST / 'kernel/image', 'vmlinuz': GUEST / 'kernel/vmlinuz',
          'initramfs': GUEST / 'initramfs.cpio'}

# Nodes of the host's devices, and the group that udev gives them to.
# Nothing is everyone's, and root is root's alone.
DEVICES = {'null': '', 'zero': '', 'full': '', 'random': '', 'urandom': '',
           'tty': '', 'net/tun': '', 'kvm': 'kvm', 'vhost-net': 'kvm',
           'vhost-vsock': 'kvm', 'userfaultfd': 'root', 'vfio/vfio': ''}
MODES = {'': 0o666, 'kvm': 0o660, 'root': 0o600}
# Where commands run.
FOLDER = '/root'
ENVIRONMENT = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C',
               f'HOME={FOLDER}']
NAMESPACES = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup']
LINKS = {'fd': '/proc/self/fd', 'stdin': 'fd/0', 'stdout': 'fd/1',
         'stderr': 'fd/2', 'ptmx': 'pts/ptmx'}

# Where AppArmor's policies are, and those of hosts.
POLICY = Path('/sys/kernel/security/apparmor/policy')

# The first process of a host NAME with the root ROOT.  What was the root goes
# away.  It waits for all that nobody else waits for.
INIT = '''\
set -eu
hostname "$1"
cd "$2"
mount -t proc proc proc
mount -t sysfs sysfs sys
[ ! -d /sys/kernel/security/apparmor ] ||
    mount -t securityfs securityfs sys/kernel/security
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir sys/fs/cgroup/init
echo 0 >sys/fs/cgroup/init/cgroup.procs
mkdir .before
pivot_root . .before
umount -l .before
rmdir .before
ip link set lo up
echo ready
while :; do sleep 1000; done
'''

# It finds what it needs in /opt, where nothing is that Debian has.
QEMU = '''\
#!/bin/sh
exec /opt/{loader} --library-path /opt/lib /opt/{program} \\
    -L /usr/share/qemu -L /usr/share/seabios -L /usr/lib/ipxe/qemu "$@"
'''


def libraries(program: Path) -> Dict[str, Path]:
    """The shared libraries of a program and its loader, by their names."""
    shown = subprocess.run(['ldd', program], stdout=subprocess.PIPE, text=True,
                           check=True).stdout
    return {Path(path).name: Path(path).resolve()
            for path in re.findall(r'(/\S+) \(0x', shown)}


def make_node(dev: Path, name: str, mode: int) -> None:
    """A device of the emulated host."""
    node = dev / name
    node.parent.mkdir(exist_ok=True)
    os.mknod(node, stat.S_IFCHR, Path('/dev', name).stat().st_rdev)
    node.chmod(mode)


def _lay_images(folder: Path) -> None:
    """The guest's kernels."""
    images = folder / 'var/lib/libvirt/images'
    images.mkdir(parents=True)
    for name, path in IMAGES.items():
        shutil.copy(path, images / name)


def _lay_qemu(folder: Path) -> None:
    """The libraries of QEMU, what starts it, and a place for itself."""
    for name in ('opt/lib', 'usr/bin'):
        (folder / name).mkdir(parents=True)
    qemu = native().qemu
    loader = ''
    for name, path in libraries(qemu).items():
        shutil.copy(path, folder / 'opt/lib' / name)
        if name.startswith('ld-'):
            loader = f'lib/{name}'
    (folder / 'opt' / qemu.name).touch(0o755)
    program = folder / 'usr/bin' / qemu.name
    program.write_text(QEMU.format(loader=loader, program=qemu.name),
                       encoding='ascii')
    program.chmod(0o755)


def addition(name: str, lay: Callable[[Path], None]) -> Path:
    """What hosts have beside Debian, laid once."""
    folder = HOSTS / name
    if not folder.exists():
        folder.mkdir(parents=True)
        lay(folder)
    return folder


class Host:
    """
    A host that runs.  Its files are below ROOT as long as it does.
    """

    def __init__(self, name: str, debian: str, address: str):
        """
        @param debian: a folder of build/
        """
        self.name = name
        self.debian = debian
        self.address = address
        # Whether QEMU is that of the packages.
        self.packaged = debian == installed.NAME
        self.policy = POLICY / 'namespaces' / name
        self.folder = HOSTS / name
        self.cgroup = CGROUPS / name
        self._lay_root()
        self._start()
        self.root = Path(f'/proc/{self.pid}/root')
        self.space = Path(f'/proc/{self.pid}/ns/pid').readlink()

    @property
    def emulator(self) -> str:
        """What a domain has to name to have QEMU, if anything."""
        return f'/usr/bin/{PROGRAM}' if self.packaged else ''

    @property
    def process_name(self) -> str:
        """What QEMU is called while it runs."""
        return PROGRAM if self.packaged else 'ld-linux-x86-64.so.2'

    @property
    def confined(self) -> bool:
        """Whether AppArmor confines what runs there."""
        return POLICY.exists()

    # How it comes to be

    def _mount(self, *args: Word) -> None:
        subprocess.run(['mount', *args], check=True)

    def _lay_root(self) -> None:
        """Debian, what is added to it, and memory for what is written."""
        lower = [addition('images', _lay_images),
                 require(BUILD / self.debian, 'Debian',
                         f'scripts/build {self.debian}')]
        if not self.packaged:
            lower.insert(0, addition('qemu', _lay_qemu))
        self.folder.mkdir(parents=True)
        self._mount('-t', 'tmpfs', '-o', 'size=50%,mode=755', 'tmpfs',
                    self.folder)
        for name in ('upper', 'work', 'root'):
            (self.folder / name).mkdir()
        new = self.folder / 'root'
        # Who changes the owner of a file copies nothing else of it.
        self._mount('-t', 'overlay', '-o',
                    f"lowerdir={':'.join(map(str, lower))},metacopy=on,"
                    f'upperdir={self.folder}/upper,'
                    f'workdir={self.folder}/work', 'overlay', new)
        self._lay_devices(new)
        self._mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', new / 'run')
        if not self.packaged:
            qemu = native().qemu
            self._mount('--bind', qemu, new / 'opt' / qemu.name)

    def _lay_devices(self, new: Path) -> None:
        dev = new / 'dev'
        self._mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', dev)
        groups = dict(re.findall(r'^(\w+):[^:]*:(\d+):',
                                 (new / 'etc/group').read_text('utf-8'), re.M))
        for name, group in DEVICES.items():
            if Path('/dev', name).exists():
                make_node(dev, name, MODES[group])
                os.chown(dev / name, 0, int(groups.get(group, 0)))
        for name, target in LINKS.items():
            (dev / name).symlink_to(target)
        for kind, name, options in (('devpts', 'pts', 'ptmxmode=666'),
                                    ('tmpfs', 'shm', 'mode=1777'),
                                    ('hugetlbfs', 'hugepages', 'mode=755')):
            (dev / name).mkdir()
            self._mount('-t', kind, '-o', options, kind, dev / name)

    def _enter(self, cgroup: str) -> List[str]:
        """Starts a command in a cgroup, under the host's AppArmor policies."""
        policy = f'echo changeprofile :{self.name}://unconfined ' \
            '>/proc/self/attr/apparmor/current && '
        return ['sh', '-c', f'echo 0 >{cgroup}/cgroup.procs && '
                f'{policy if self.confined else ""}exec "$@"', 'sh']

    def _start(self) -> None:
        (CGROUPS / 'cgroup.subtree_control').write_text(CONTROLLERS)
        self.cgroup.mkdir()
        if self.confined:
            self.policy.mkdir()
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [*WITH_US, *self._enter(str(self.cgroup)), 'unshare', *NAMESPACES,
             '--propagation', 'private', '--fork', '--kill-child', '--', 'sh',
             '-c', INIT, 'init', self.name, self.folder / 'root'],
            stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        if self.process.stdout.readline() != 'ready\n':
            raise Failure(f"the host '{self.name}' does not start")
        there = self.cgroup / 'init/cgroup.procs'
        self.pid = int(there.read_text('ascii').split()[0])
        # No process may be where controllers are switched on.
        there.write_text(str(self.process.pid), encoding='ascii')

    def close(self) -> None:
        """End it, and all that runs there."""
        self.process.kill()
        self.process.wait()
        for _ in pauses(f'end of {self.name}', 0.1):
            if not self.processes():
                break
        for path in sorted(self.cgroup.rglob('*/'), reverse=True):
            if path.is_dir():
                path.rmdir()
        self.cgroup.rmdir()
        if self.confined:
            self.policy.rmdir()
        for folder in (self.folder / 'root', self.folder):
            subprocess.run(['umount', '--recursive', folder], check=True)
        self.folder.rmdir()

    # What can be done there

    def give(self, name: str) -> None:
        """A device that has come since."""
        if not self.path(f'/dev/{name}').exists():
            make_node(self.path('/dev'), name,
                      MODES[DEVICES.get(name, 'root')])

    def command(self, *words: Word) -> List[str]:
        """What runs a command there, as root."""
        return ['nsenter', f'--target={self.pid}', *NAMESPACES, '--',
                'env', '-i', f'--chdir={FOLDER}', *ENVIRONMENT,
                *self._enter('/sys/fs/cgroup/init'), *map(str, words)]

    def start(self, *words: Word, **how: Any) -> 'subprocess.Popen[str]':
        """Start a command there."""
        return subprocess.Popen(
            self.command(*words), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)

    def run(self, *words: Word) -> str:
        """Run a command there; returns what it prints."""
        done = subprocess.run(self.command(*words), text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        if done.returncode:
            raise Failure(f"'{' '.join(map(str, words))}' failed in "
                          f'{self.name}: {done.stderr.strip()}')
        return done.stdout

    def path(self, name: Word) -> Path:
        """Where a file of the host is."""
        return self.root / str(name).lstrip('/')

    def read(self, name: Word) -> str:
        """A file of the host, or nothing."""
        try:
            return self.path(name).read_text(errors='replace')
        except FileNotFoundError:
            return ''

    def write(self, name: Word, text: str) -> None:
        """Write a file of the host."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

    def uid(self, user: str) -> int:
        """The number of a user there."""
        found = re.search(rf'^{user}:[^:]*:(\d+):', self.read('/etc/passwd'),
                          re.M)
        if not found:
            raise Failure(f"{self.name} has no user '{user}'")
        return int(found[1])

    def processes(self) -> Dict[int, str]:
        """All that run there, as they are numbered outside, and their names."""
        found = {}
        for path in Path('/proc').glob('[0-9]*'):
            try:
                if (path / 'ns/pid').readlink() == self.space:
                    found[int(path.name)] = (path / 'comm').read_text('utf-8')
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def pids(self, program: str) -> List[int]:
        """The processes of that name there."""
        return [pid for pid, name in self.processes().items()
                if name.strip() == program[:15]]
