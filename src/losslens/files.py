"""Files that another program never sees half written."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_UMASK = os.umask(0)  # to be read only by setting it: once, before there are threads
os.umask(_UMASK)


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a file beside `path`, and put it in its place once it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    aside = Path(name)
    try:
        save(aside)
        aside.chmod(0o666 & ~_UMASK)
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


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
