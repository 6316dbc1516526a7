"""What the catalogue knows of every loss, as it is kept beside the page, and where that differs from what holds now."""

import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from losslens.build import build_loss
from losslens.catalogue.entries import Entry
from losslens.catalogue.measure import costs, measure
from losslens.console import say
from losslens.lens.changes import change_bank
from losslens.lens.picture import read_picture
from losslens.lens.responses import BLIND
from losslens.machine import processor

SIZE = 180  # pixels of the photograph's longer side, when it is measured on
RELATIVE, ABSOLUTE = 0.05, 2e-3  # tolerance of numbers that another machine measures
DIGITS = 4
TRAINING = ("model", "optimizer", "schedule", "trainer", "data", "seed", "order_seed", "array")

Record = dict[str, Any]


def new_record(
    entries: Sequence[Entry],
    settings: Mapping[str, Any],
    photograph: Path,
    console: Console,
    wanted: Collection[str] | None = None,
) -> Record:
    """Describe and measure all losses; one that cannot be made here is described alone, and a line says why.

    Args:
        entries: what is catalogued.
        settings: of the training that the pictures come from.
        photograph: a file.
        console: for the user.
        wanted: keys of those that are measured; None: all.

    Returns:
        Plain values: `training`, `size`, `rms`, and `losses` by key, each with `kind`, `name`, `sees`, `facts`,
        `config` (a digest) and `measured`, which is None for those that were not.
    """
    image, _ = read_picture(str(photograph), SIZE)
    bank, rms = change_bank(image)
    described: dict[str, Record] = {}
    for entry in track(entries, "measuring", console=console, transient=True):
        described[entry.key] = {
            "kind": entry.kind,
            "name": entry.name,
            "sees": entry.sees,
            "facts": dict(entry.facts),
            "config": _digest(entry.config),
            "measured": None,
        }
        if wanted is not None and entry.key not in wanted:
            continue
        try:
            found = measure(build_loss(entry.config).eval(), image, bank)
        except ValueError as error:
            say(console, f"{entry.key}: not measured: {error}")
            continue
        described[entry.key]["measured"] = _rounded(asdict(found))
    return {
        "training": _digest({part: settings[part] for part in TRAINING}),
        "size": list(image.shape[-2:]),
        "rms": rms,
        "losses": described,
    }


def add_costs(record: Record, entries: Sequence[Entry]) -> None:
    """Time the losses that were measured, as multiples of l1, and say where and when."""
    measured = {each.key: each for each in entries if record["losses"][each.key]["measured"]}
    modules = {key: build_loss(entry.config).eval() for key, entry in measured.items()}
    for key, cost in costs(modules, modules["l1"]).items():
        record["losses"][key]["cost"] = float(f"{cost:.3g}")
    versions = f"torch {torch.__version__.partition('+')[0]}, Python {platform.python_version()}"
    record["made"] = f"{processor()}; {versions}; {datetime.now(UTC):%Y-%m-%d}"


def read_record(path: Path) -> Record:
    """Read what was kept.

    Raises:
        ValueError: if there is none, or it is no record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(record, dict)
        assert isinstance(record["losses"], dict)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"{path} cannot be read as the catalogue's numbers ({error}): write it anew") from error
    return record


def differences(kept: Record, now: Record) -> Iterator[str]:
    """Say in what a record differs from one that was made now; not in costs, nor in what only one could measure."""
    for name in ("training", "size", "rms"):
        yield from _differences(name, kept.get(name), now[name])
    for key in dict.fromkeys([*kept["losses"], *now["losses"]]):
        before, after = kept["losses"].get(key), now["losses"].get(key)
        if before is None or after is None:
            yield f"{key} is {'new' if before is None else 'gone'}"
            continue
        for name, value in after.items():
            if name != "measured" or None not in (value, before[name]):
                yield from _differences(f"{key}: {name}", before.get(name), value)


def _differences(path: str, first: Any, second: Any, absolute: float = ABSOLUTE) -> Iterator[str]:
    """Go through two nested values, whose numbers may differ a little: the scale of a loss, `noise`, may be any."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            tolerance = {"noise": 0.0, "responses": BLIND}.get(key, absolute)
            yield from _differences(f"{path}.{key}", first.get(key), second.get(key), tolerance)
    elif isinstance(first, float) and isinstance(second, float | int):
        if not abs(first - second) <= RELATIVE * max(abs(first), abs(second)) + absolute:
            yield f"{path} was {first}, and is {second}"
    elif first != second:
        yield f"{path} was {first}, and is {second}"


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
