"""A variant: its configuration, its place, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PICTURES = "pictures"  # a variant's folder of grids, named by their steps
HParam = bool | int | float | str  # what TensorBoard's HParams tab takes


@dataclass(frozen=True)
class Variant:
    """One fully resolved configuration of a sweep.

    Args:
        name: readable and unique within the sweep.
        config: resolved, plain: `model`, `loss`, `optimizer`, `schedule`, `trainer`, `data`, `seed`, `array`,
            `callbacks`.
        folder: where it is written; it exists.
        values: what is shown in the HParams tab: the main choices and whatever differs within the sweep.
        threads: of PyTorch on the CPU, whose number decides last digits.
    """

    name: str
    config: Mapping[str, Any]
    folder: Path
    values: Mapping[str, HParam]
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """What a trained variant came to.

    Args:
        metrics: of the last validation, by name.
        seen: names of the metrics along directions that the variant's own loss sees.
        facts: what else `metrics.json` says: code, compression ratio, steps, time.
    """

    metrics: dict[str, float]
    seen: list[str]
    facts: dict[str, Any]
