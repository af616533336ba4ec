# SPDX-License-Identifier: GPL-2.0-or-later
"""
Install the QEMU that was built here, beside any other, and remove it again.

It finds firmware where Debian and others have it, wherever it is itself.  What
was made is on a list, folders among it, so that no more and no less than that
is removed, also of an earlier one and of one that was cut short.
"""

import argparse
import os
from pathlib import Path
import shutil
from typing import Dict, List

from kuf import cli, process
from kuf.build.project import Project
from kuf.cli import Failure
from kuf.paths import TOP, require


# Debian's packages call it so, too.
PROGRAM = 'qemu-system-x86_64-kvm-userfault'
MANUAL = Path(f'debian/qemu-system-x86-kvm-userfault/{PROGRAM}.1')

DOC = 'share/doc/qemu-kvm-userfault'


def files(project: Project) -> Dict[str, Path]:
    """What is installed, by its path below the prefix."""
    program = project.build / 'qemu/qemu-system-x86_64'
    return {
        f'bin/{PROGRAM}': require(program, 'QEMU', 'make'),
        f'share/man/man1/{MANUAL.name}': project.top / MANUAL,
        f'{DOC}/COPYING': project.top / 'COPYING',
        f'{DOC}/postcopy-kvm-userfault.rst':
            project.top / 'docs/system/postcopy-kvm-userfault.rst',
    }


class Installation:
    """What is installed below DESTDIR, or is to be, for a prefix."""

    def __init__(self, destdir: Path, prefix: Path) -> None:
        if not prefix.is_absolute():
            raise Failure(f"the prefix '{prefix}' is not an absolute path; "
                          'give one with PREFIX=')
        self.destdir = destdir
        self.prefix = prefix.relative_to('/')
        self.list = destdir / self.prefix / DOC / 'installed'
        # Below DESTDIR; a folder is before what is in it.
        self.names = self._read()

    def _read(self) -> List[str]:
        if not self.list.exists():
            return []
        names = self.list.read_text(encoding='utf-8').splitlines()
        for name in names:
            if Path(name).is_absolute() or '..' in Path(name).parts:
                raise Failure(f"'{self.list}' has '{name}', which is not "
                              'below what was installed to; remove by hand '
                              'what is installed there')
        return names

    def _missing(self, folder: Path) -> List[str]:
        """That folder and those above it, as far as they are to be made."""
        path = self.destdir / folder
        if path.is_dir() or folder == Path('.'):
            return []
        return [*self._missing(folder.parent), str(folder)]

    def _remove(self, names: List[str]) -> None:
        """A folder in which others have put something stays."""
        for name in reversed(names):
            path = self.destdir / name
            if not path.is_dir() or path.is_symlink():
                path.unlink(missing_ok=True)
            elif not any(path.iterdir()):
                path.rmdir()

    def _write_list(self, names: List[str]) -> None:
        self.list.parent.mkdir(parents=True, exist_ok=True)
        self.list.write_text(''.join(f'{name}\n' for name in names),
                             encoding='utf-8')

    @staticmethod
    def _copy(source: Path, path: Path) -> None:
        """A whole file in place of one that may be in use."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + '.new')
        try:
            shutil.copyfile(source, new)
            new.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def install(self, wanted: Dict[str, Path]) -> None:
        """These files, and no others of an earlier one."""
        paths = {str(self.prefix / name): source
                 for name, source in wanted.items()}
        theirs = [name for name in self.names if name not in paths
                  and not (self.destdir / name).is_dir()]
        names = [name for name in self.names if name not in theirs]
        itself = str(self.prefix / self.list.relative_to(
            self.destdir / self.prefix))
        for name in (itself, *paths):
            names += [new for new in (*self._missing(Path(name).parent), name)
                      if new not in names]
        self._write_list([*names, *theirs])
        for name, source in paths.items():
            self._copy(source, self.destdir / name)
        self._remove([name for name in theirs if name != itself])
        self._write_list(names)

    def uninstall(self) -> None:
        """All of it."""
        if not self.names:
            raise Failure(f"nothing is installed in '{self.prefix}' below "
                          f"'{self.destdir}' ('{self.list}' is missing); give "
                          'the PREFIX and DESTDIR that it was installed with')
        self._remove(self.names)


def arguments() -> argparse.Namespace:
    """What to do, and where."""
    parser = cli.parser('scripts/install', 'Install QEMU as '
                        f'PREFIX/bin/{PROGRAM}, or remove it again.')
    parser.add_argument('verb', choices=['install', 'uninstall'])
    parser.add_argument('--prefix', type=Path, default=Path('/usr/local'),
                        metavar='DIR', help='where it will be [/usr/local]')
    parser.add_argument('--destdir', type=Path, default=Path('/'),
                        metavar='DIR', help='what is / then [/]')
    return parser.parse_args()


def _work() -> int:
    args = arguments()
    installation = Installation(args.destdir, args.prefix)
    try:
        if args.verb == 'install':
            installation.install(files(Project(TOP)))
        else:
            installation.uninstall()
    except OSError as error:
        process.reraise_interrupt()
        raise Failure(f"'{error.filename or args.destdir}' can't be written: "
                      f'{error.strerror}; run as root, make room, or give '
                      "another PREFIX; what is there by now, 'make uninstall' "
                      'removes') \
            from error
    return 0


def main() -> int:
    """The program."""
    return cli.run('scripts/install', _work)
