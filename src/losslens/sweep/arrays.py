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

SETTINGS = "settings"  # of the command
REPORTED = "reported"  # once the report is made
STOPPED = "stopped"  # once a variant has failed, if fail_fast says that the others are to stop
ENDINGS = (HEARTBEAT_ENDING, LOCK_ENDING) = (".heartbeat", ".lock")


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
        """Read `variants`, their names; `attempts`, how often a process began in vain; `progress`, how far it was."""
        contents: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return contents

    def write(self, contents: Mapping[str, Any]) -> None:
        """Write what `read` reads."""
        write_json(self.file, contents)

    def end(self) -> None:
        """Leave nothing to do; only who has taken it may do so."""
        self.file.unlink(missing_ok=True)
        for ending in ENDINGS:
            self.file.with_suffix(ending).unlink(missing_ok=True)

    @property
    def is_taken(self) -> bool:
        """Whether a process is at work on it, as far as that can be seen."""
        return is_held(self.file.with_suffix(LOCK_ENDING))

    @contextmanager
    def taken(self, patience: float = 0.0) -> Iterator[bool]:
        """Take it, until the block or the process ends; yields whether nobody else has.

        Args:
            patience: seconds to wait for somebody else.
        """
        lock = FileLock(self.file.with_suffix(LOCK_ENDING))
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock, as far as that can be seen."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder
        return False


def report_marker(folder: Path) -> tuple[Path, FileLock]:
    """Return the file that says that the report of a command is made, and the lock of who makes it."""
    marker = arrays_folder(folder) / REPORTED
    return marker, FileLock(f"{marker}{LOCK_ENDING}")


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
    """Write the arrays of a command; those of an earlier one are withdrawn already.

    Args:
        folder: of the sweep.
        arrays: names of variants.
        settings: of the command: `report` and `fail_fast`.
    """
    place = arrays_folder(folder)
    place.mkdir(exist_ok=True)
    write_json(place / SETTINGS, dict(settings))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stored = [StoredArray(place / f"{stamp}-{number:05d}.json") for number in range(len(arrays))]
    for array, names in zip(stored, arrays, strict=True):
        array.write({"variants": list(names), "attempts": 0, "progress": []})
    return stored


def read_settings(folder: Path) -> dict[str, Any]:
    """Read what `write_arrays` was given; nothing is wanted of a sweep whose arrays are withdrawn."""
    try:
        settings: dict[str, Any] = json.loads((arrays_folder(folder) / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"report": False, "fail_fast": False}
    return settings


def withdraw_arrays(folder: Path) -> None:
    """Leave nothing to do for processes that have not begun, and a new report to make.

    Raises:
        ValueError: if a process is at work on one.
    """
    place = arrays_folder(folder)
    if not place.exists():
        return
    for array in stored_arrays(folder):
        with array.taken() as mine:
            if not mine:
                raise ValueError(f"other processes are at work on {folder}: wait for them, or stop them first")
            array.end()
    marker, lock = report_marker(folder)
    with lock:
        for file in (marker, place / STOPPED, place / SETTINGS):
            file.unlink(missing_ok=True)
