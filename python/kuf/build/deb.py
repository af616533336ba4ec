# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian packages that are made here: build/deb/*.deb

Each has a folder in debian/, with what a source package has there; @NAME@ in
its files stands for what is only known when it is made.  Version and times are
those of the last commit that changes what it is made of, so the same sources
give the same bytes.
"""

from datetime import datetime, timezone
from email.utils import format_datetime
import os
from pathlib import Path
import re
import shutil
import subprocess
from typing import (
    Callable,
    Dict,
    Mapping,
    NamedTuple,
    Optional,
)

from kuf.build import stamp
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


CHANGELOG = '''\
{source} ({version}) UNRELEASED; urgency=medium

  * {what}

 -- {maintainer}  {date}
'''

# What debhelper's and dpkg's results depend on.
ENVIRONMENT = ('PATH', 'HOME')


class Version(NamedTuple):
    """What a package is called, and when that was made."""

    upstream: str
    seconds: int
    local: bool

    @property
    def when(self) -> datetime:
        """The same as a date."""
        return datetime.fromtimestamp(self.seconds, timezone.utc)

    def __str__(self) -> str:
        local = '+local' if self.local else ''
        return f'{self.upstream}+{self.when:%Y%m%d.%H%M%S}{local}'


def folder(project: Project) -> Path:
    """Where packages are."""
    return project.build / 'deb'


def packaging(project: Project, name: str) -> Path:
    """What a source package has in its debian/."""
    return project.top / 'debian' / name


def version(project: Project, name: str, upstream: str,
            *made_of: str) -> Version:
    """
    That of a package now: later commits have later ones, and what is not
    committed says so.

    @param upstream: the version of what it has with the fork
    @param made_of: what is packaged, as paths of the repository
    """
    paths = [f'debian/{name}', *made_of]
    if given := os.environ.get('SOURCE_DATE_EPOCH', ''):
        return Version(upstream, int(given), False)
    git = Git(project.top)
    found = git.find('log', '-1', '--format=%ct', '--', *paths)
    if not found:
        raise Failure('packages get their version from the commits, and '
                      f"'{project.top}' has none; use a clone of the "
                      'repository, or set SOURCE_DATE_EPOCH')
    return Version(upstream, int(found),
                   bool(git('status', '--porcelain', '--', *paths)))


def field(paragraph: str, name: str) -> str:
    """The value of a field of a control file, or nothing."""
    found = re.search(rf'^{name}:(.*\n(?:[ \t].*\n)*)', paragraph, re.M)
    return found[1].strip() if found else ''


def _fill_in(name: str, debian: Path, values: Mapping[str, str]) -> None:
    """In all files of debian/."""
    def value(match: 're.Match[str]') -> str:
        if match[1] not in values:
            raise Failure(f'debian/{name} asks for {match[0]}; there are: '
                          f"{', '.join(values)}")
        return values[match[1]]

    for path in debian.rglob('*'):
        if path.is_file():
            text = path.read_text(encoding='utf-8')
            path.write_text(re.sub(r'@([A-Z_]+)@', value, text),
                            encoding='utf-8')


def lay(project: Project, name: str, called: Version, what: str, new: Path,
        **values: str) -> None:
    """
    NEW/debian of a source package.

    @param name: of the folder in debian/
    @param what: is in it, as its changelog says
    @param values: what stands for the names in its files, beside VERSION
    """
    debian = new / 'debian'
    shutil.copytree(packaging(project, name), debian)
    _fill_in(name, debian, {'VERSION': str(called), **values})
    control = (debian / 'control').read_text(encoding='utf-8')
    (debian / 'changelog').write_text(CHANGELOG.format(
        source=field(control, 'Source'), version=called, what=what,
        maintainer=field(control, 'Maintainer'),
        date=format_datetime(called.when)), encoding='utf-8')


def environment(called: Version) -> Dict[str, str]:
    """That of a package's build: what is made is the same for everybody."""
    return {**{name: os.environ[name] for name in ENVIRONMENT
               if name in os.environ},
            'LC_ALL': 'C.UTF-8', 'TZ': 'UTC',
            'SOURCE_DATE_EPOCH': str(called.seconds)}


def contents(project: Project, name: str) -> str:
    """What stands for all of its packaging."""
    return stamp.checksum(Path(__file__), *sorted(
        path for path in packaging(project, name).rglob('*')
        if path.is_file()))


def make(project: Project, name: str, called: Version, sources: str,
         write: Callable[[Path], None], output: Optional[Path] = None) -> Path:
    """
    Have a package that has to be compiled by nobody; returns its file.

    @param name: of the package, and of its folder in debian/
    @param sources: stands for what is packaged: if nothing has changed, there
                    is nothing to do
    @param write: makes a new folder with what is packaged and its debian/
    @param output: where packages are, if not in build/deb
    """
    output = output or folder(project)
    inputs = stamp.checksum(str(called), sources, contents(project, name))
    done = output / f'.{name}.inputs'
    there = list(output.glob(f'{name}_*.deb'))
    if len(there) == 1 and stamp.is_at(done, inputs):
        return there[0]
    stamp.remove(done)
    work = output / '.work' / name
    stamp.remove(work)
    work.mkdir(parents=True)
    new = work / name
    write(new)
    subprocess.run(['chmod', '-R', 'u=rwX,go=rX', work], check=True)
    log = Log(output / f'{name}.log')
    with log.explains(f'{name} could not be made'):
        log.run('dpkg-buildpackage', '--build=binary', '--no-sign', cwd=new,
                env=environment(called))
    for old in there:
        old.unlink()
    made = next(work.glob(f'{name}_*.deb'))
    target = made.rename(output / made.name)
    stamp.remove(work)
    stamp.put(done, inputs)
    print(target, flush=True)
    return target
