# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian packages that are made here: build/deb/*.deb

Each has a folder in debian/, with what a source package has there; @NAME@ in
its files stands for what is only known when it is made.  The same commit gives
the same bytes.
"""

from email.utils import formatdate
import os
from pathlib import Path
import re
import shutil
import subprocess
import time
from typing import (
    Callable,
    Dict,
    Mapping,
    Optional,
)

from kuf.build import stamp
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


CHANGELOG = '''\
{source} ({version}) unstable; urgency=medium

  * Made from commit {commit}.

 -- {maintainer}  {date}
'''

# What debhelper's and dpkg's results depend on.
ENVIRONMENT = ('PATH', 'HOME')


def folder(project: Project) -> Path:
    """Where packages are."""
    return project.build / 'deb'


def epoch(project: Project) -> int:
    """The time of what is packaged, in seconds: that of the commit."""
    given = os.environ.get('SOURCE_DATE_EPOCH', '')
    found = given or Git(project.top).find('log', '-1', '--format=%ct')
    if not found.isdecimal():
        raise Failure(f"'{project.top}' is no git repository, which says when "
                      'it was changed; set SOURCE_DATE_EPOCH')
    return int(found)


def version(project: Project, upstream: str) -> str:
    """A package's version: later commits have later ones."""
    when = time.strftime('%Y%m%d.%H%M%S', time.gmtime(epoch(project)))
    return f'{upstream}+{when}'


def _control(path: Path, field: str) -> str:
    match = re.search(rf'^{field}: (.*)$', path.read_text('utf-8'), re.M)
    if not match:
        raise Failure(f"'{path}' has no {field}; correct it")
    return match[1]


def _substitute(debian: Path, values: Mapping[str, str]) -> None:
    """In all files of debian/."""
    def value(match: 're.Match[str]') -> str:
        if match[1] not in values:
            raise Failure(f'debian/{debian.parent.name} asks for {match[0]}; '
                          f"there are: {', '.join(values)}")
        return values[match[1]]

    for path in debian.rglob('*'):
        if path.is_file():
            text = path.read_text(encoding='utf-8')
            path.write_text(re.sub(r'@([A-Z]+)@', value, text),
                            encoding='utf-8')


def _lay_debian(project: Project, name: str, new: Path,
                values: Mapping[str, str]) -> None:
    debian = new / 'debian'
    shutil.copytree(project.top / 'debian' / name, debian)
    _substitute(debian, values)
    control = debian / 'control'
    (debian / 'changelog').write_text(CHANGELOG.format(
        source=_control(control, 'Source'), version=values['VERSION'],
        commit=Git(project.top).find('rev-parse', '--short=12', 'HEAD')
        or 'unknown', maintainer=_control(control, 'Maintainer'),
        date=formatdate(epoch(project))), encoding='utf-8')


def environment(project: Project) -> Dict[str, str]:
    """That of a package's build: what is made is the same for everybody."""
    return {**{name: os.environ[name] for name in ENVIRONMENT
               if name in os.environ},
            'LC_ALL': 'C.UTF-8', 'TZ': 'UTC',
            'SOURCE_DATE_EPOCH': str(epoch(project))}


def _inputs(project: Project, name: str, values: Mapping[str, str],
            sources: str) -> str:
    debian = project.top / 'debian' / name
    return stamp.checksum(
        Path(__file__), sources, repr(sorted(values.items())),
        *sorted(path for path in debian.rglob('*') if path.is_file()))


def make(project: Project, name: str, values: Mapping[str, str], sources: str,
         lay: Callable[[Path], None], output: Optional[Path] = None) -> Path:
    """
    Have a package; returns its file.

    @param name: of the package, and of its folder in debian/
    @param values: what stands for the names in its files; VERSION has to be
                   among them
    @param sources: stands for what is packaged: if nothing has changed, there
                    is nothing to do
    @param lay: puts into a new folder what is packaged
    @param output: where packages are, if not in build/deb
    """
    output = output or folder(project)
    inputs = _inputs(project, name, values, sources)
    done = output / f'.{name}.inputs'
    there = list(output.glob(f'{name}_*.deb'))
    if len(there) == 1 and stamp.is_at(done, inputs):
        return there[0]
    stamp.remove(done)
    work = output / '.work' / name
    stamp.remove(work)
    work.mkdir(parents=True)
    new = work / name
    lay(new)
    _lay_debian(project, name, new, values)
    subprocess.run(['chmod', '-R', 'u=rwX,go=rX', work], check=True)
    log = Log(output / f'{name}.log')
    with log.explains(f'{name} could not be made'):
        log.run('dpkg-buildpackage', '--build=binary', '--no-sign', cwd=new,
                env=environment(project))
    for old in there:
        old.unlink()
    made = next(work.glob(f'{name}_*.deb'))
    target = made.rename(output / made.name)
    stamp.remove(work)
    stamp.put(done, inputs)
    print(target, flush=True)
    return target
