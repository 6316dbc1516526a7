"""Queue arrays for other processes: each has a file with the names of its variants, and a lock.

A file exists until its array has ended, so that a job that starts late finds nothing to do if the sweep was resumed
elsewhere meanwhile.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from losslens.files import write_json
from losslens.sweep.folder import LOCK, is_held
from losslens.sweep.stored import ARRAY, read_object
from losslens.sweep.stored import SETTINGS as SETTINGS_SHAPE

SETTINGS = "settings"  # file with the command's settings
REPORTED = "reported"  # file that exists once the report is made
STOPPED = "stopped"  # file that exists once a variant has failed under fail_fast
ENDINGS = (HEARTBEAT_ENDING, LOCK_ENDING) = (".heartbeat", ".lock")


@dataclass(frozen=True)
class QueuedArray:
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
        """The heartbeat file of its process."""
        return self.file.with_suffix(HEARTBEAT_ENDING)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to train."""
        return not self.file.exists()

    def read(self) -> dict[str, Any]:
        """Read the names of `variants`, the `attempts` without progress, and the `progress` at the last attempt.

        Raises:
            Damaged: if the file is not as it was written.
        """
        return read_object(self.file, ARRAY)

    def write(self, contents: Mapping[str, Any]) -> None:
        """Write the entries that `read` returns."""
        write_json(self.file, contents)

    def remove(self) -> None:
        """Remove this array from the queue. The caller must hold its lock."""
        self.file.unlink(missing_ok=True)
        for ending in ENDINGS:
            self.file.with_suffix(ending).unlink(missing_ok=True)

    @property
    def is_claimed(self) -> bool:
        """Whether a process holds its lock, as far as that can be seen."""
        return is_held(self.file.with_suffix(LOCK_ENDING))

    @contextmanager
    def claimed(self, patience: float = 0.0) -> Iterator[bool]:
        """Claim the array until the block or the process ends; yields False if another process holds it.

        Args:
            patience: seconds to wait for another process.
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


def report_marker(folder: Path) -> tuple[Path, FileLock]:
    """Return the file that marks a command's report as made, and the lock for making it."""
    marker = arrays_folder(folder) / REPORTED
    return marker, FileLock(f"{marker}{LOCK_ENDING}")


def arrays_folder(folder: Path) -> Path:
    """Return the folder of a sweep's arrays; it may not exist."""
    return folder / "arrays"


def queued_arrays(folder: Path) -> list[QueuedArray]:
    """List the arrays of a sweep that have not ended, in their order."""
    return [QueuedArray(file) for file in sorted(arrays_folder(folder).glob("*.json"))]


def claimed_arrays(folder: Path) -> list[QueuedArray]:
    """List the arrays of a sweep on which processes are at work."""
    return [array for array in queued_arrays(folder) if array.is_claimed]


def queue_arrays(folder: Path, arrays: Sequence[Sequence[str]], settings: Mapping[str, Any]) -> list[QueuedArray]:
    """Write the arrays of a command; the caller must have cleared the queue.

    Args:
        arrays: names of the variants of each.
        settings: `report` and `fail_fast` of the command.
    """
    place = arrays_folder(folder)
    place.mkdir(exist_ok=True)
    write_json(place / SETTINGS, dict(settings))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stored = [QueuedArray(place / f"{stamp}-{number:05d}.json") for number in range(len(arrays))]
    for array, names in zip(stored, arrays, strict=True):
        array.write({"variants": list(names), "attempts": 0, "progress": []})
    return stored


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings given to `queue_arrays`; all are False if the queue was cleared."""
    try:
        return read_object(arrays_folder(folder) / SETTINGS, SETTINGS_SHAPE)
    except FileNotFoundError:
        return {"report": False, "fail_fast": False}


def clear_queue(folder: Path) -> None:
    """Empty the queue, and mark the report as out of date.

    Raises:
        ValueError: if a process is at work on an array.
    """
    place = arrays_folder(folder)
    if not place.exists():
        return
    for array in queued_arrays(folder):
        with array.claimed() as mine:
            if not mine:
                raise ValueError(f"other processes are at work on {folder}: wait for them, or stop them first")
            array.remove()
    marker, lock = report_marker(folder)
    with lock:
        for file in (marker, place / STOPPED, place / SETTINGS):
            file.unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Return whether a process is at work on a sweep's folder, as far as that can be seen."""
    return bool(claimed_arrays(folder)) or is_held(folder / LOCK)
