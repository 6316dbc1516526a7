"""A variant: its configuration, folder and outcome."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from omegaconf import DictConfig

Settings = Mapping[str, Any]  # a nested part of a configuration; where it has `_target_`, `build` makes an object of it


class ArrayConfig(TypedDict):
    """How variants train together."""

    max_variants: int | str  # a number or `auto`
    threads: int | str  # per variant on the CPU; a number or `auto`
    compile: bool


class CheckpointConfig(TypedDict):
    """How often states are written."""

    every: str  # such as `60s` or `500steps`


class VariantConfig(TypedDict):
    """The resolved configuration of a variant, as in its `config.yaml`; `conf/train.yaml` says what each part means."""

    model: Settings
    loss: Settings
    optimizer: Settings
    schedule: Settings | None
    data: Settings
    trainer: Settings
    array: ArrayConfig
    checkpoint: CheckpointConfig
    callbacks: Settings
    seed: int
    order_seed: int
    baselines: list[str]


Job = tuple[DictConfig, list[str], Mapping[str, Any]]
PICTURES = "pictures"  # a variant's folder of grids, named by their steps
HParam = bool | int | float | str  # value in TensorBoard's HParams tab
MAX_LENGTH = 120  # bytes: file systems allow 255, paths on Windows 260 characters in all
HASH_LENGTH = 8


@dataclass(frozen=True)
class Variant:
    """One fully resolved configuration of a sweep.

    Args:
        name: unique within the sweep.
        values: shown in the HParams tab: the main choices and whatever differs within the sweep.
        threads: of PyTorch on the CPU; results depend on their number in the last digits.
    """

    name: str
    config: VariantConfig
    folder: Path
    values: Mapping[str, HParam]
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """Results of a trained variant.

    Args:
        metrics: of the last validation, by name.
        seen: names of the metrics along directions that the variant's own loss sees.
        facts: other entries of `metrics.json`: code, compression ratio, steps, time.
    """

    metrics: dict[str, float]
    seen: list[str]
    facts: dict[str, Any]


def config_key(*configs: object) -> str:
    """Return a text that is the same for equal configurations, whatever the order of their keys."""
    return json.dumps(configs, sort_keys=True)


def varied_values(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep the values of each job, as `job_values` returns them, that differ between jobs; the loss if none does."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    varied = [key for key in keys if len({str(job.get(key)) for job in jobs}) > 1] or ["loss"]
    return [{key: job[key] for key in varied if key in job} for job in jobs]


def folder_name(values: Mapping[str, Any]) -> str:
    """Write values as a folder name, for instance `loss=luma,seed=1`."""
    return safe_name(",".join(f"{key}={value}" for key, value in values.items()))


def safe_name(name: str) -> str:
    """Make a file name that every file system accepts, without separators; letters of every alphabet stay.

    A name that has to be changed or shortened ends on a hash of the original, so that two names are never one folder.
    """
    composed = unicodedata.normalize("NFC", name)  # one name, whichever way its accents were typed
    words = "".join(letter if _stays(letter) else " " for letter in composed)
    safe = re.sub(" +", "-", words).strip("-.")
    if safe == composed and len(safe.encode()) <= MAX_LENGTH:
        return safe
    room = MAX_LENGTH - HASH_LENGTH - 1
    start = safe.encode()[:room].decode(errors="ignore") or "variant"
    return f"{start}-{hashlib.sha256(composed.encode(errors='surrogatepass')).hexdigest()[:HASH_LENGTH]}"


def _stays(letter: str) -> bool:
    """Return whether a character is a letter, an accent or a digit, or one of those that are safe everywhere."""
    return unicodedata.category(letter)[0] in "LMN" or letter in "_=,.+-"
