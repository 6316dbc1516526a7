"""A disk cache of decoded images: a folder is decoded once, and need not fit into memory."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from platformdirs import user_cache_path

from losslens.files import write, write_json

CHECKED_AT_ONCE = 2**20  # bytes


class Decoded(NamedTuple):
    """Decoded images of some files: `pixels`, uint8 `(N, 3, H, W)`, file by file.

    `counts` are the images of each file, `small` the number of enlarged files, `unreadable` the unreadable ones.
    """

    pixels: np.ndarray
    counts: list[int]
    small: int
    unreadable: list[str]


def cache_folder() -> Path:
    """Return the cache folder: `LOSSLENS_CACHE` if set, else the platform's."""
    return Path(os.environ.get("LOSSLENS_CACHE") or user_cache_path("losslens"))


def fingerprint(files: Iterable[Path], **settings: object) -> str:
    """Return a hash of the files' paths, sizes and modification times, and of the decoding's settings."""
    rows = [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]
    return hashlib.sha256(json.dumps([rows, settings]).encode()).hexdigest()[:32]


def load(name: str) -> Decoded | None:
    """Return the images stored under a name, memory-mapped; None if they are missing or damaged."""
    pixels, facts = _places(name)
    try:
        stored = json.loads(facts.read_text(encoding="utf-8"))
        checksum = 0
        with pixels.open("rb") as file:
            while some := file.read(CHECKED_AT_ONCE):
                checksum = crc32(some, checksum)
        if checksum != stored["checksum"] or pixels.stat().st_size != math.prod(stored["shape"]):
            return None
        return Decoded(_map(pixels, stored["shape"]), stored["counts"], stored["small"], stored["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(name: str, pieces: Iterable[Decoded]) -> Decoded:
    """Write pieces one after another, atomically, and return them as one, memory-mapped.

    Raises:
        OSError: if the cache cannot be written.
    """
    pixels, facts = _places(name)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    checksum, shape = 0, (0,)
    counts: list[int] = []
    small, unreadable = 0, []

    def save(aside: Path) -> None:
        nonlocal checksum, shape, small
        with aside.open("wb") as file:
            for piece in pieces:
                file.write(piece.pixels.data)
                checksum = crc32(piece.pixels.data, checksum)
                shape = piece.pixels.shape[1:]
                counts.extend(piece.counts)
                small += piece.small
                unreadable.extend(piece.unreadable)

    write(pixels, save)
    whole = [sum(counts), *shape]
    files = {"counts": counts, "small": small, "unreadable": unreadable}
    write_json(facts, {"shape": whole, "checksum": checksum, **files})
    return Decoded(_map(pixels, whole), counts, small, unreadable)


def _places(name: str) -> tuple[Path, Path]:
    return cache_folder() / f"{name}.pixels", cache_folder() / f"{name}.json"


def _map(path: Path, shape: Sequence[int]) -> np.ndarray:
    if not math.prod(shape):  # an empty file cannot be mapped
        return np.empty(shape, np.uint8)
    return np.memmap(path, np.uint8, "r", shape=tuple(shape))
