# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a clone keeps what is built, and which options it remembers."""

from dataclasses import dataclass
from pathlib import Path
import shlex

from kuf.build import stamp


@dataclass(frozen=True)
class Project:
    """A clone of the repository, and its folder for all that is made."""

    top: Path

    @property
    def build(self) -> Path:
        """Everything that is made is below it."""
        return self.top / 'build'

    def log(self, name: str) -> Path:
        """The log of a step."""
        return self.build / f'{name}.log'


@dataclass
class Options:
    """What configure was told; what it is not told again stays."""

    qemu_source: str = ''
    linux_source: str = ''
    host: bool = True

    def source(self, name: str) -> str:
        """The source given for a tree; empty is Debian's package."""
        return {'qemu': self.qemu_source, 'linux': self.linux_source}[name]

    @classmethod
    def load(cls, project: Project) -> 'Options':
        """Those of the last run that got through."""
        options = cls()
        path = project.build / 'config.options'
        if not path.exists():
            return options
        values = dict(word.split('=', 1) for word in
                      shlex.split(path.read_text(encoding='utf-8')))
        options.qemu_source = values.get('qemu_source', '')
        options.linux_source = values.get('linux_source', '')
        options.host = values.get('host', 'yes') == 'yes'
        return options

    def save(self, project: Project) -> None:
        """For the next run."""
        path = project.build / 'config.options'
        values = {'qemu_source': self.qemu_source,
                  'linux_source': self.linux_source,
                  'host': 'yes' if self.host else 'no'}
        text = ''.join(f'{name}={shlex.quote(value)}\n'
                       for name, value in values.items())
        if not path.exists() or path.read_text(encoding='utf-8') != text:
            stamp.write(path, text)
