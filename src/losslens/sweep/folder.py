"""A sweep's folder: its log and its lock."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from losslens.files import cannot_write

LOG = "log.txt"  # in the folders of a sweep and of each variant
LOCK = "sweep.lock"
PATIENCE = 2.0  # seconds to wait for the lock; `losslens.status` holds it briefly while checking


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock, as far as that can be seen."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # another user's folder
        return False


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Lock a sweep's folder; the operating system releases the lock when the process ends, even if killed.

    Raises:
        ValueError: if another process holds the lock, or the folder cannot be written.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise ValueError(f"another process is at work on {folder}: wait for it, or stop it first") from None
    except OSError as error:
        raise cannot_write(folder / name, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()
