"""Arrays that other processes train: a file for each says who trains together, and a lock who is at work on it.

A file is there as long as its array has not come to its end; without it nobody has anything to do. So a job that waits
in a queue finds nothing if the sweep went on elsewhere meanwhile.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from losslens.files import write_json

REPORTED = "reported"
HEARTBEAT_ENDING = ".heartbeat"


@dataclass(frozen=True)
class StoredArray:
    """An array in a sweep's folder.

    Args:
        file: in its folder `arrays`.
    """

    file: Path

    @property
    def sweep(self) -> Path:
        """The sweep's folder."""
        return self.file.parent.parent

    @property
    def heartbeat(self) -> Path:
        """Where its process gives signs of life."""
        return self.file.with_suffix(HEARTBEAT_ENDING)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do."""
        return not self.file.exists()

    def read(self) -> dict[str, Any]:
        """Read `variants`, their names; `attempts`, how often a process began; `settings` of the command."""
        contents: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return contents

    def write(self, contents: Mapping[str, Any]) -> None:
        """Write what `read` reads."""
        write_json(self.file, contents)

    def end(self) -> None:
        """Leave nothing to do."""
        self.heartbeat.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)

    @property
    def is_taken(self) -> bool:
        """Whether a process is at work on it."""
        if not self._lock_file.exists():
            return False
        with self.taken() as mine:
            return not mine

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Take it, until the block or the process ends; yields whether nobody else has."""
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @property
    def _lock_file(self) -> Path:
        return self.file.with_suffix(".lock")


def arrays_folder(folder: Path) -> Path:
    """Return where a sweep's arrays are, if there are any."""
    return folder / "arrays"


def stored_arrays(folder: Path) -> list[StoredArray]:
    """List the arrays of a sweep that have not ended, in their order."""
    return [StoredArray(file) for file in sorted(arrays_folder(folder).glob("*.json"))]


def taken_arrays(folder: Path) -> list[StoredArray]:
    """List the arrays of a sweep on which processes are at work."""
    return [array for array in stored_arrays(folder) if array.is_taken]


def write_arrays(folder: Path, arrays: Sequence[Sequence[str]], settings: Mapping[str, Any]) -> list[StoredArray]:
    """Write the arrays of a command, instead of those of an earlier one.

    Args:
        folder: of the sweep.
        arrays: names of variants.
        settings: of the command, which the processes need.
    """
    withdraw_arrays(folder)
    arrays_folder(folder).mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stored = [StoredArray(arrays_folder(folder) / f"{stamp}-{number:04d}.json") for number in range(len(arrays))]
    for array, names in zip(stored, arrays, strict=True):
        array.write({"variants": list(names), "attempts": 0, "settings": dict(settings)})
    return stored


def withdraw_arrays(folder: Path) -> None:
    """Leave nothing to do for processes that have not begun, and a report to make for those that end."""
    for file in arrays_folder(folder).glob("*"):
        if file.suffix in (".json", ".lock", HEARTBEAT_ENDING) or file.name == REPORTED:
            file.unlink(missing_ok=True)
