"""The catalogue's numbers on every loss, kept beside the page, and how they differ from new ones."""

import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.progress import track

from losslens.build import build_loss, plain_settings
from losslens.catalogue.measure import costs, measure_loss
from losslens.console import say
from losslens.lens.changes import change_bank
from losslens.lens.picture import read_picture
from losslens.lens.responses import BLIND
from losslens.machine import processor
from losslens.overrides import register_resolvers

SIZE = 180  # pixels of the photograph's longer side for measurements
RELATIVE, ABSOLUTE = 0.05, 2e-3  # tolerances for numbers from another machine
DIGITS = 4
TRAINING = ("model", "optimizer", "schedule", "trainer", "data", "seed", "order_seed", "array")
Record = dict[str, Any]
# Kinds of entries, and their folders in `conf/loss/`.
KINDS = {"loss": "", "view": "view", "distance": "distance"}
FACTS = ("formula", "range", "source")


@dataclass(frozen=True)
class Entry:
    """A loss by name, a view (with the distance l1), or a distance (of the view rgb).

    Args:
        kind: `loss`, `view` or `distance`.
        sees: first line of its file.
        facts: `formula`, and `range` and `source` where the file has them.
        config: of the whole loss, resolved.
    """

    kind: str
    name: str
    sees: str
    facts: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Unique name."""
        return self.name if self.kind == "loss" else f"{self.kind}-{self.name}"


def read_entries(project: Path) -> list[Entry]:
    """Read all entries, by kind and name.

    Args:
        project: folder that holds `conf`.

    Raises:
        ValueError: if it holds no `conf/loss`, or if a file does not say what it is.
    """
    losses = project / "conf" / "loss"
    if not losses.is_dir():
        raise ValueError(f"{project} has no conf/loss: start from the folder of the project")
    with initialize_config_dir(str((project / "conf").resolve()), version_base="1.3"):
        return [
            _read(kind, path) for kind, folder in KINDS.items() for path in sorted((losses / folder).glob("*.yaml"))
        ]


def train_settings(project: Path) -> dict[str, Any]:
    """Return the default configuration of `train.py`, resolved, without the loss."""
    register_resolvers()
    with initialize_config_dir(str((project / "conf").resolve()), version_base="1.3"):
        return {key: value for key, value in plain_settings(compose("train")).items() if key != "loss"}


def _read(kind: str, path: Path) -> Entry:
    first, *others = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")] or [""]
    facts = {name: text for line in others for name, _, text in [line.partition(": ")] if name in FACTS}
    if not first or "formula" not in facts:
        raise ValueError(
            f"{path} does not say what it is: begin it with a line '# sees: ...; blind to: ...', then '# formula: ...'"
        )
    override = f"loss={path.stem}" if kind == "loss" else f"loss/{kind}={path.stem}"
    config = plain_settings(compose("train", [override]).loss)
    return Entry(kind, path.stem, first.removeprefix("sees: "), facts, config)


def new_record(
    entries: Sequence[Entry],
    settings: Mapping[str, Any],
    photograph: Path,
    console: Console,
    wanted: Collection[str] | None = None,
) -> Record:
    """Describe and measure all losses; one that cannot be built here is only described, and a line says why.

    Args:
        settings: of the training behind the pictures.
        wanted: keys of the losses to measure; None: all.

    Returns:
        Plain values: `training`, `size`, `rms`, and `losses` by key, each with `kind`, `name`, `sees`, `facts`,
        `config` (a digest) and `measured`, which is None if it was not measured.
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
            found = measure_loss(build_loss(entry.config).eval(), image, bank)
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
    """Time the measured losses, as multiples of l1, and record machine, versions and date."""
    measured = {each.key: each for each in entries if record["losses"][each.key]["measured"]}
    modules = {key: build_loss(entry.config).eval() for key, entry in measured.items()}
    for key, cost in costs(modules, modules["l1"]).items():
        record["losses"][key]["cost"] = float(f"{cost:.3g}")
    versions = f"torch {torch.__version__.partition('+')[0]}, Python {platform.python_version()}"
    record["made"] = f"{processor()}; {versions}; {datetime.now(UTC):%Y-%m-%d}"


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        ValueError: if there is no file, or it is no record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(record, dict)
        assert isinstance(record["losses"], dict)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"{path} cannot be read as the catalogue's numbers ({error}): write it anew") from error
    return record


def differences(kept: Record, now: Record) -> Iterator[str]:
    """Yield how a record differs from a new one, except in costs and in losses that only one could measure."""
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
    """Yield differences of nested values beyond a tolerance, only relative for `noise`: losses may have any scale."""
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
