# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of the kernels' names, and of what the compiler cache is asked for.
"""

from pathlib import Path
import subprocess
import tempfile
import unittest

from kuf.build import kernel
from kuf.build.compilers import KBUILD, compiler, environment
from kuf.build.kernel import Variant
from kuf.build.project import Project
from kuf.cli import Failure


class VariantTest(unittest.TestCase):
    """Of a project with two configurations."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.project = Project(Path(folder.name))
        configs = self.project.top / 'host/configs'
        configs.mkdir(parents=True)
        for name in ('default', 'debug'):
            (configs / f'{name}.config').touch()

    def check(self, name: str, root: str, *fragments: str) -> None:
        """What a name stands for."""
        variant = Variant(self.project, name)
        self.assertEqual(variant.root, self.project.top / root)
        self.assertEqual([path.stem for path in variant.fragments()],
                         list(fragments))

    def test_names(self) -> None:
        self.assertEqual(kernel.names(self.project), ['debug', 'default'])
        self.check('default', 'build', 'default')
        self.check('debug', 'build', 'default', 'debug')
        self.check('base', 'build/base-build', 'default')
        self.check('base-debug', 'build/base-build', 'default', 'debug')

    def test_unknown(self) -> None:
        for name in ('other', 'base-other', 'baseless'):
            with self.assertRaisesRegex(Failure, f"no kernel '{name}'; there "
                                        'are: debug, default, base'):
                Variant(self.project, name).fragments()

    def test_lost_option(self) -> None:
        self.assertEqual(kernel.LOST.findall(
            'Value requested\nRequested value:  CONFIG_A=y\n'
            'Actual value:\nRequested value:  # CONFIG_B is not set\n'),
            ['CONFIG_A=y'])


class AssemblerTest(unittest.TestCase):
    """The compiler cache knows nothing of what .incbin includes."""

    def assembled(self, folder: Path, included: str) -> bytes:
        """An object that includes a file."""
        (folder / 'included').write_text(included, encoding='ascii')
        subprocess.run(
            [*compiler('gcc').split(), *kernel.UNCACHED.split(),
             '-Wp,-MMD,piggy.d', '-c', '-o', 'piggy.o', 'piggy.S'],
            cwd=folder, check=True,
            env=environment(Project(folder), **KBUILD,
                            CCACHE_DIR=str(folder / 'cache')))
        return (folder / 'piggy.o').read_bytes()

    def test_includes_what_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / 'piggy.S').write_text('.incbin "included"\n',
                                            encoding='ascii')
            for included in ('this one', 'that one'):
                self.assertIn(included.encode(),
                              self.assembled(folder, included))
