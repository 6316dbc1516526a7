"""Decoded images on disk, so that a folder of many files is decoded once and not at every start."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder for what can be made again: `LOSSLENS_CACHE` if set, else the platform's place for it."""
    return Path(os.environ.get("LOSSLENS_CACHE") or user_cache_path("losslens"))


def fingerprint(files: Iterable[Path], **settings: object) -> str:
    """Return a name that changes when a file's path, size or time of change does, or a setting of the decoding."""
    rows = [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]
    return hashlib.sha256(json.dumps([rows, settings]).encode()).hexdigest()[:32]


def load(name: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored under a name, or nothing if there are none or they are damaged."""
    try:
        with (cache_folder() / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def store(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Store arrays whole or not at all; where the cache cannot be written, warn and go on."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".part", delete=False) as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(file.name, cache_folder() / f"{name}.npz")
    except OSError as error:
        warnings.warn(f"decoded images are not cached in {cache_folder()}: {error}", stacklevel=2)
