"""Files that another program never sees half written."""

import errno
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
ASIDE = ".aside-"  # in the names of files that are being written


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a file beside `path`, and put it in its place once it is whole."""
    aside = path.with_name(f".{path.name}{ASIDE}{secrets.token_hex(8)}")
    try:
        save(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file whole; numbers that are not finite, which JSON does not know, become null."""
    write_text(path, json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def append_line(path: Path, text: str) -> None:
    """Add a line to a log, after the time; where it cannot be written, it is lost."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def unique(names: Sequence[str]) -> list[str]:
    """Number names that occur again, also where only upper and lower case differ."""
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
    """Name one of several files: from the second on, with its number."""
    return f"{name}-{number}" if number > 1 else name


def is_disk_error(error: BaseException) -> TypeGuard[OSError]:
    """Whether an error says that nothing can be written any more: no room, a quota, a file system gone read-only."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
