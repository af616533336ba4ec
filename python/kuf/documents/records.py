# SPDX-License-Identifier: GPL-2.0-or-later
"""
What was measured, as it is kept: bench/results/DATE-QEMU-LINUX.json.

A record has what was measured on one day of one QEMU on one Linux, each
measurement by its name.  Documents are made of the newest record that has what
they need.
"""

from datetime import datetime, timezone
import json
from pathlib import Path
from typing import (
    Any,
    Dict,
    NamedTuple,
    Optional,
)

from kuf.cli import Failure
from kuf.paths import SOURCES, TOP


SCHEMA = 1

RECORDS = TOP / 'bench/results'

Data = Dict[str, Any]


class Versions(NamedTuple):
    """Of what it was measured, and when."""
    date: str
    qemu: str
    linux: str

    def text(self) -> str:
        """In words."""
        return f'QEMU {self.qemu}, Linux {self.linux}; {self.date}'


class Measurement(NamedTuple):
    """What one program has measured."""
    versions: Versions
    # Whatever has to be known of all of it; mostly nothing.
    note: str
    data: Data


def load(path: Path) -> Data:
    """A record."""
    try:
        record: Data = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as exc:
        raise Failure(f'{path} is not JSON ({exc}); take it from git') from exc
    if record.get('schema') != SCHEMA:
        raise Failure(f"{path} has schema {record.get('schema')}, and this "
                      f'program knows {SCHEMA}; measure anew')
    return record


def find(name: str, folder: Path = RECORDS) -> Optional[Measurement]:
    """The last measurement of a name, if there is one."""
    for path in sorted(folder.glob('*.json'), reverse=True):
        record = load(path)
        if name in record:
            return Measurement(
                Versions(record['date'], record['qemu'], record['linux']),
                record.get('note', ''), record[name])
    return None


def newest(name: str, folder: Path = RECORDS) -> Measurement:
    """The last measurement of a name, which is there."""
    if found := find(name, folder):
        return found
    raise Failure(f"no record in {folder} has '{name}'; measure it, see "
                  'bench/')


def our_qemu() -> str:
    """The version of QEMU that is built here."""
    return (SOURCES / 'qemu/VERSION').read_text(encoding='ascii').strip()


def versions_of(numbers: Path, linux: str) -> Versions:
    """Of what was measured when this file was written, with our QEMU."""
    day = datetime.fromtimestamp(numbers.stat().st_mtime, timezone.utc)
    return Versions(f'{day:%Y-%m-%d}', our_qemu(), linux)


def same_versions(name: str, linux: str,
                  folder: Path = RECORDS) -> Optional[Data]:
    """The last measurement of a name, if it was of our QEMU and that Linux."""
    found = find(name, folder)
    if found and found.versions[1:] == (our_qemu(), linux):
        return found.data
    return None


def keep(versions: Versions, name: str, data: Data,
         folder: Path = RECORDS) -> Path:
    """Put a measurement into its record; returns where that is."""
    path = folder / f"{'-'.join(versions)}.json"
    record = (load(path) if path.exists()
              else {'schema': SCHEMA, **versions._asdict()})
    record[name] = data
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    return path
