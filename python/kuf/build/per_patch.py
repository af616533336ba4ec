# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is built of a tree when each of its patches is checked: as much as the
changed files can break.
"""

from pathlib import Path
import re
from typing import Callable, Dict, List

from kuf.build import (
    kernel,
    kvm,
    qemu,
    selftests,
)
from kuf.build.compilers import environment
from kuf.build.log import Log
from kuf.build.project import Project


SELFTESTS = 'tools/testing/selftests/kvm/'

# Other architectures have to take what is common.
COMMON = re.compile(r'virt/kvm|include/.*/kvm|arch/(arm64|riscv)')


def build_qemu(project: Project, source: Path, _changed: List[str],
               log: Path) -> None:
    """QEMU, and the tests of migration."""
    folder = project.build / 'check/qemu'
    folder.mkdir(parents=True, exist_ok=True)
    output = Log(log)
    if not (folder / 'build.ninja').exists():
        qemu.configure(project, source, folder, output)
    output.run('ninja', '-C', folder, 'qemu-system-x86_64',
               'tests/qtest/migration-test', env=environment(project))


def build_linux(project: Project, source: Path, changed: List[str],
                log: Path) -> None:
    """The kernel, which knows nothing of its selftests, and these."""
    folder = project.build / 'check'
    with open(log, 'wb') as output:
        if not all(name.startswith(SELFTESTS) for name in changed):
            kernel.build(kernel.Variant(project, 'default'), source,
                         folder / 'linux', output)
        if any(COMMON.match(name) for name in changed):
            for arch in kvm.CROSS:
                kvm.build(project, arch, source, folder / f'kvm-{arch}',
                          output)
        if any(name.startswith(SELFTESTS) for name in changed):
            selftests.build(project, source, folder / 'selftests', output)


BUILDS: Dict[str, Callable[[Project, Path, List[str], Path], None]] = {
    'qemu': build_qemu,
    'linux': build_linux,
}
