# SPDX-License-Identifier: GPL-2.0-or-later
"""
The kernels of the emulated host.
"""

from dataclasses import dataclass
from pathlib import Path
import re
from typing import IO, List, Optional

from kuf.build import stamp
from kuf.build.compilers import (
    KBUILD,
    compiler,
    jobs,
    make,
)
from kuf.build.git import Git
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.build.tree import Tree
from kuf.cli import Failure


# The build must not stamp who built it, or when, or that pahole is installed,
# which it has no use for: that would be in no cache.
REPRODUCIBLE = ['KBUILD_BUILD_TIMESTAMP=2026-01-01', 'KBUILD_BUILD_USER=build',
                'KBUILD_BUILD_HOST=localhost', 'LOCALVERSION=', 'PAHOLE=none']

# ccache does not see what .incbin includes.  It would take the image's
# compressed kernel for another one that happens to have the same size, so have
# options at the assembler that it does not cache.
UNCACHED = '-Xpreprocessor -P'
ASSEMBLER = [f'KAFLAGS={UNCACHED}', f'AFLAGS_piggy.o={UNCACHED}']

LOST = re.compile(r'^Requested value:  (CONFIG_[^=]*=.*)$', re.M)


def names(project: Project) -> List[str]:
    """The configurations that there are."""
    return sorted(path.stem for path in
                  (project.top / 'host/configs').glob('*.config'))


@dataclass(frozen=True)
class Variant:
    """
    A kernel of the emulated host by its name: host/configs/NAME.config on top
    of default.config.  "base" and "base-NAME" are the same ones without the
    series; all of that is in build/base-build and laid out there as in build,
    so that ccache finds what the series has not changed.
    """

    project: Project
    name: str

    @property
    def patched(self) -> bool:
        """Whether it has the series."""
        return not re.match(r'base(-|$)', self.name)

    @property
    def config(self) -> str:
        """The name of its configuration."""
        return self.name if self.patched else \
            self.name[len('base-'):] or 'default'

    @property
    def root(self) -> Path:
        """Where its tree and its build are."""
        build = self.project.build
        return build if self.patched else build / 'base-build'

    @property
    def output(self) -> Path:
        """Where it is built."""
        return self.root / f'linux-{self.config}'

    def fragments(self) -> List[Path]:
        """What it is configured from."""
        if self.config not in names(self.project):
            raise Failure(f"no kernel '{self.name}'; there are: "
                          f"{', '.join(names(self.project))}, base, and "
                          'base-NAME for a variant without the series')
        return [self.project.top / f'host/configs/{name}.config'
                for name in dict.fromkeys(('default', self.config))]


def _configure(source: Path, output: Path, name: str,
               fragments: List[Path]) -> None:
    """If it is not yet as asked for."""
    inputs = stamp.checksum(*fragments, Git(source)('rev-parse', 'HEAD') + '\n')
    if stamp.is_at(output / '.inputs', inputs):
        return
    log = Log(output / 'configure.log')
    with log.explains(f"kernel '{name}' could not be configured"):
        log.run('scripts/kconfig/merge_config.sh', '-n', '-O', output,
                *fragments, cwd=source)
    # It says which values did not make it to the end; what is off because its
    # menu is off is as asked.
    lost = LOST.findall(log.path.read_text(encoding='utf-8'))
    if lost:
        raise Failure(f"kernel '{name}' can't have {' '.join(lost)} (an option "
                      'that it depends on is off); correct host/configs')
    stamp.put(output / '.inputs', inputs)


def build(variant: Variant, source: Optional[Path] = None,
          output: Optional[Path] = None,
          log: Optional[IO[bytes]] = None) -> None:
    """OUTPUT/arch/x86/boot/bzImage, out of tree."""
    project = variant.project
    fragments = variant.fragments()
    output = output or variant.output
    if not source:
        source = variant.root / 'src/linux'
        tree = Tree(project, 'linux')
        tree.require()
        if not variant.patched:
            with stamp.lock(variant.root / '.lock'):
                tree.base_tree(source)
    cc = compiler('gcc')
    with stamp.lock(output / '.lock'):
        _configure(source, output, variant.name, fragments)
        if not make(project, source, f'O={output}', f'CC={cc}', f'HOSTCC={cc}',
                    *REPRODUCIBLE, *ASSEMBLER, jobs(), 'bzImage', output=log,
                    **KBUILD):
            raise Failure(f"kernel '{variant.name}' does not build; the "
                          "compiler's message is above")
