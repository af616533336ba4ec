# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's own build of the base: build/stock/qemu-system-x86_64

The binary package of the version line in base/qemu and all libraries that it
needs, the C library and its loader among them, are unpacked and not installed:
the machine may be of another release.  A wrapper starts it.
"""

from pathlib import Path

from kuf.build import stamp
from kuf.build.apt import Apt
from kuf.build.base import Base
from kuf.build.log import Log
from kuf.build.project import Project


PACKAGE = 'qemu-system-x86'
SUITES = ['trixie']

# Starts a QEMU as QEMU's test framework does.  Debian's builds have no qtest
# accelerator, which that names as the last resort; TCG stands in.
WITHOUT_QTEST = '''\
#!/bin/sh
for arg; do
    shift
    [ "$arg" != qtest ] || arg=tcg
    set -- "$@" "$arg"
done
'''

WRAPPER = WITHOUT_QTEST + '''\
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
QEMU_MODULE_DIR=$libraries/qemu exec "$libraries/ld-linux-x86-64.so.2" \\
    --library-path "$libraries" "$root/usr/bin/qemu-system-x86_64" \\
    -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" \\
    -L "$root/usr/share/qemu" "$@"
'''

# What is not needed to run it.
UNUSED = ('usr/share/doc', 'usr/share/man', 'usr/share/locale')


def _download(apt: Apt, version: str, folder: Path) -> None:
    """The package and what it depends on, verified by apt."""
    (folder / 'partial').mkdir(parents=True)
    log = apt.log()
    with log.explains(f'{PACKAGE} {version} could not be fetched',
                      'run the same command again'):
        log.run('apt-get', *apt.suite_options(), '-o',
                f'Dir::Cache::Archives={folder}', '-o',
                'Dir::State::extended_states=/dev/null', '-o',
                'Debug::NoLocking=1', '-y', '--no-install-recommends',
                '--download-only', 'install', f'{PACKAGE}={version}')


def _unpack(log: Log, archives: Path, root: Path) -> None:
    """Without what maintainer scripts would do."""
    with log.explains(f'{PACKAGE} could not be unpacked'):
        for package in sorted(archives.glob('*.deb')):
            log.run('dpkg-deb', '-x', package, root)
    stamp.remove(archives)
    for name in UNUSED:
        stamp.remove(root / name)


def build(project: Project) -> None:
    """Bring it, if it is not there."""
    base = Base(project, 'qemu')
    stock = project.build / 'stock'
    inputs = stamp.checksum(Path(__file__), base.path)
    if stamp.is_at(stock / '.inputs', inputs):
        return
    stamp.need_space(project.build, 400, "Debian's QEMU")
    apt = Apt(project)
    version = base.locate(apt, PACKAGE, 'binary', SUITES)
    print(f'Fetching {PACKAGE} {version}', flush=True)
    new = project.build / '.stock'
    stamp.remove(new)
    (new / 'root').mkdir(parents=True)
    _download(apt, version, new / 'archives')
    log = Log(project.log('unpack'))
    _unpack(log, new / 'archives', new / 'root')
    program = new / 'qemu-system-x86_64'
    program.write_text(WRAPPER, encoding='utf-8')
    program.chmod(0o755)
    with log.explains("Debian's QEMU does not run here"):
        log.run(program, '-version')
    stamp.put(new / '.inputs', inputs)
    stamp.replace(new, stock)
