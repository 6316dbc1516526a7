"""A disk cache of decoded images: a folder is decoded once, and need not fit into memory."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from platformdirs import user_cache_path

from losslens.files import write, write_json

CHECKED_AT_ONCE = 2**20  # bytes
FACTS = ("counts", "small", "unreadable", "peaks")  # stored beside the pixels


class Decoded(NamedTuple):
    """Decoded images of some files: `pixels`, uint8 `(N, 3, H, W)`, file by file.

    `counts` are the images of each file, `small` the number of enlarged files, `unreadable` the unreadable ones with
    the reasons, `fleeting` whether one may be readable the next time, `peaks` the largest numbers in files of 16 bits,
    gray and in color.
    """

    pixels: np.ndarray
    counts: list[int]
    small: int
    unreadable: list[str]
    fleeting: bool = False
    peaks: Sequence[int] = (0, 0)


def joined(pieces: Sequence[Decoded]) -> Decoded:
    """Return pieces as one, in main memory."""
    return Decoded(np.concatenate([piece.pixels for piece in pieces]), *_facts(pieces))


def _facts(pieces: Sequence[Decoded]) -> tuple[list[int], int, list[str], bool, list[int]]:
    return (
        [count for piece in pieces for count in piece.counts],
        sum(piece.small for piece in pieces),
        [path for piece in pieces for path in piece.unreadable],
        any(piece.fleeting for piece in pieces),
        [max(channel) for channel in zip(*(piece.peaks for piece in pieces), strict=True)],
    )


def cache_folder() -> Path:
    """Return the cache folder: `LOSSLENS_CACHE` if set, else the platform's."""
    return Path(os.environ.get("LOSSLENS_CACHE") or user_cache_path("losslens"))


def fingerprint(files: Iterable[Path], **settings: object) -> str:
    """Return a hash of the files' paths, sizes and modification times, and of the decoding's settings."""
    rows = [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]
    return hashlib.sha256(json.dumps([rows, settings]).encode()).hexdigest()[:32]


def load(name: str) -> Decoded | None:
    """Return the images stored under a name, memory-mapped; None if they are missing or damaged."""
    pixels, record = _places(name)
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        checksum = 0
        with pixels.open("rb") as file:
            while some := file.read(CHECKED_AT_ONCE):
                checksum = crc32(some, checksum)
        facts = {name: stored[name] for name in FACTS}
        if _checksum(facts, checksum) != stored["checksum"] or pixels.stat().st_size != math.prod(stored["shape"]):
            return None
        return Decoded(_map(pixels, stored["shape"]), **facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(name: str, pieces: Iterable[Decoded]) -> Decoded:
    """Write pieces one after another, atomically, and return them as one, memory-mapped.

    With a failure that may be over the next time, `load` does not find them.

    Raises:
        OSError: if the cache cannot be written.
    """
    pixels, record = _places(name)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    checksum, shape = 0, (0,)
    told: list[Decoded] = []  # without their pixels

    def save(aside: Path) -> None:
        nonlocal checksum, shape
        with aside.open("wb") as file:
            for piece in pieces:
                file.write(piece.pixels.data)
                checksum = crc32(piece.pixels.data, checksum)
                shape = piece.pixels.shape[1:]
                told.append(piece._replace(pixels=piece.pixels[:0].copy()))

    record.unlink(missing_ok=True)
    write(pixels, save)
    counts, small, unreadable, fleeting, peaks = _facts(told)
    whole = [sum(counts), *shape]
    if not fleeting:
        facts = dict(zip(FACTS, (counts, small, unreadable, peaks), strict=True))
        write_json(record, {"shape": whole, "checksum": _checksum(facts, checksum), **facts})
    return Decoded(_map(pixels, whole), counts, small, unreadable, fleeting, peaks)


def _checksum(facts: Mapping[str, Any], checksum: int) -> int:
    return crc32(json.dumps(facts).encode(), checksum)


def _places(name: str) -> tuple[Path, Path]:
    return cache_folder() / f"{name}.pixels", cache_folder() / f"{name}.json"


def _map(path: Path, shape: Sequence[int]) -> np.ndarray:
    if not math.prod(shape):  # an empty file cannot be mapped
        return np.empty(shape, np.uint8)
    return np.memmap(path, np.uint8, "r", shape=tuple(shape))
