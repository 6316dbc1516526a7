"""Write files so that no other program sees one half written."""

import errno
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeGuard

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
ASIDE = ".aside-"  # in the names of files that are being written
LONGEST_START = 200  # bytes that such a name takes from that of the file: names have at most 255


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a temporary file beside `path`, then move it to `path`."""
    start = os.fsdecode(os.fsencode(path.name)[:LONGEST_START])
    aside = path.with_name(f".{start}{ASIDE}{secrets.token_hex(8)}")
    try:
        save(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_asides(folder: Path, seconds: float = 0.0) -> None:
    """Remove what killed processes left half written below a folder, if it has not changed for so many seconds."""
    for left in folder.rglob(f".*{ASIDE}*"):
        with suppress(OSError):  # a folder, or gone meanwhile
            if time.time() - left.lstat().st_mtime >= seconds:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file atomically; numbers that are not finite become null."""
    write_text(path, json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def append_line(path: Path, text: str) -> None:
    """Append a line with the time to a log; if it cannot be written, it is lost."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def unique(names: Sequence[str]) -> list[str]:
    """Number repeated names; names that differ only in case count as repeated."""
    result: list[str] = []
    taken: set[str] = set()
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate.casefold())
        result.append(candidate)
    return result


def numbered(name: str, number: int) -> str:
    """Append the number to a name, from the second on."""
    return f"{name}-{number}" if number > 1 else name


def is_disk_error(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error means that the disk is full, over its quota or read-only."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def claim(path: Path) -> Path:
    """Make a new folder; if another run took the name in the same second, number it.

    Raises:
        ValueError: if the folder cannot be made.
    """
    candidate, number = path, 2
    while True:
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not candidate.is_dir():
                raise cannot_write(candidate, "a file of that name is in the way") from None
            candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
        except OSError as error:
            raise cannot_write(candidate, error.strerror or str(error)) from error


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a claimed folder again if an error leaves nothing in it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()
        raise


def cannot_write(path: Path, reason: str) -> ValueError:
    """Make the error that says how to write elsewhere."""
    return ValueError(
        f"cannot write {path} ({reason}): choose another folder with hydra.run.dir=FOLDER, "
        "or for a sweep with hydra.sweep.dir=FOLDER"
    )
