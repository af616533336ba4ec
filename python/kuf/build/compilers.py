# SPDX-License-Identifier: GPL-2.0-or-later
"""
How compilers and make are called: through ccache if that is there, so that
what another clone has compiled needs not be compiled again.
"""

import os
from pathlib import Path
import shutil
import subprocess
from typing import IO, Dict, Optional

from kuf import process
from kuf.build.project import Project
from kuf.process import Word


def ccache(project: Project) -> Dict[str, str]:
    """What makes another clone's cache as good as ours."""
    return {
        # Paths in the cache are relative to the clone.
        'CCACHE_BASEDIR': str(project.top), 'CCACHE_NOHASHDIR': '1',
        # What is not in the cache costs no preprocessor, a sixth of a first
        # build.
        'CCACHE_DEPEND': '1',
    }


# The prefix map names the clone and, with relative paths, maps nothing.
KBUILD = {'CCACHE_IGNOREOPTIONS': '-fmacro-prefix-map=*'}


def environment(project: Project, **more: str) -> Dict[str, str]:
    """That of a build."""
    return dict(os.environ, **ccache(project), **more)


def compiler(name: str) -> str:
    """How to call a compiler, as one word for make."""
    return f'ccache {name}' if shutil.which('ccache') else name


def jobs() -> str:
    """How many make gets: as many as ninja takes by itself."""
    return f'-j{len(os.sched_getaffinity(0)) + 2}'


def make(project: Project, folder: Path, *args: Word,
         output: Optional[IO[bytes]] = None, **env: str) -> bool:
    """
    Make's own output is what is wrong.  What it has started keeps our locks,
    see stamp.lock().
    """
    return process.run(
        ['make', '-s', '-C', folder, *args], close_fds=False,
        env=environment(project, **env), stdout=output, stderr=output,
        stdin=subprocess.DEVNULL) == 0
