# SPDX-License-Identifier: GPL-2.0-or-later
"""
The KVM selftests of a Linux tree, and what userspace sees of its headers.
"""

import os
from pathlib import Path
import subprocess
from typing import IO, Optional

from kuf.build import stamp
from kuf.build.compilers import (
    compiler,
    environment,
    jobs,
    make,
)
from kuf.build.log import Log
from kuf.build.project import Project
from kuf.cli import Failure


def headers(project: Project, source: Path, output: Path) -> None:
    """OUTPUT/usr/include is what userspace sees of a Linux."""
    with stamp.lock(output / '.lock'):
        log = Log(output / 'headers.log')
        with log.explains(f"the headers of '{source}' can't be installed"):
            log.run('make', '-s', '-C', source, f'O={output}',
                    f"HOSTCC={compiler('gcc')}", 'headers',
                    env=environment(project))


def build(project: Project, source: Optional[Path] = None,
          output: Optional[Path] = None,
          log: Optional[IO[bytes]] = None) -> None:
    """
    Build the KVM selftests of a Linux tree.

    OUTPUT/NAME for each test of this machine's architecture, and OUTPUT/tests
    with their names.  What userspace sees of the kernel's headers is laid in
    OUTPUT-headers first; a change there is a change to every test.
    """
    source = source or project.build / 'src/linux'
    output = output or project.build / 'selftests'
    tests = source / 'tools/testing/selftests/kvm'
    if not tests.is_dir():
        raise Failure(f"'{source}' is no Linux tree; run ./configure, or give "
                      'one')
    include = output.with_name(output.name + '-headers')
    # ccache makes the paths in dependency files relative; make finds its
    # targets in them only if it knows these by the same path.
    args = [f'OUTPUT={os.path.relpath(output, tests)}', f"CC={compiler('gcc')}",
            f'KHDR_INCLUDES=-isystem {include}/usr/include']
    with stamp.lock(output / '.lock'):
        headers(project, source, include)
        if not make(project, tests, *args, jobs(), 'all', output=log):
            raise Failure(f"the KVM selftests of '{source}' do not build; the "
                          "compiler's message is above")
        # make knows which tests there are; their list is for those who run
        # them.
        names = subprocess.run(
            ['make', '-s', '-C', tests, *args, 'tests', '--eval',
             'tests: ; @printf "%s\\n" $(TEST_GEN_PROGS:$(OUTPUT)/%=%)'],
            stdout=subprocess.PIPE, check=True).stdout
        stamp.write(output / 'tests', names)
