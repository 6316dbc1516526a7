"""What a sweep left in its folders: tables, configurations, curves, trained variants."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from losslens.files import write_json
from losslens.report.baseline import Baseline, read_baselines, read_reasons
from losslens.report.study_numbers import study_columns
from losslens.variant import PICTURES, Variant

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from losslens.training.module import LitAutoencoder

SWEEP_FILE = "sweep.json"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
FACTS = ("steps", "epochs", "seconds", "num_parameters", "compression_ratio")


@dataclass(frozen=True)
class VariantResult:
    """What one variant left in its folder; what is not there yet is empty.

    Args:
        name: unique within the sweep.
        folder: of the variant.
        values: main choices, by name: loss, model, data, seed, and whatever differs within the sweep.
        own_loss: its loss's name among those of the sweep.
    """

    name: str
    folder: Path
    values: Mapping[str, Any]
    own_loss: str

    @cached_property
    def status(self) -> dict[str, Any]:
        """`status` (pending, running, interrupted, done, failed) and `reason`."""
        return self._json("status.json") or {"status": "pending", "reason": None}

    @property
    def done(self) -> bool:
        """Whether it trained to the end."""
        return bool(self.status["status"] == "done" and self.results)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved configuration."""
        path = self.folder / "config.yaml"
        if not path.exists():
            return {}
        config = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Command, machine and versions."""
        return self._json("environment.json")

    @cached_property
    def results(self) -> dict[str, Any]:
        """All of `metrics.json`."""
        return self._json("metrics.json")

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last validation: of the whole training if it is done. Those that are not finite are absent."""
        if self.results:
            return {name: value for name, value in self.results["metrics"].items() if value is not None}
        last = self.curves[-1] if self.curves else {}
        return {name.removeprefix("val/"): value for name, value in last.items() if name.startswith("val/")}

    @cached_property
    def curves(self) -> list[dict[str, float]]:
        """Rows of `metrics.csv`, one for each validation."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            return []
        rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
        return [{name: value for name, value in row.items() if math.isfinite(value)} for row in numbers]

    @property
    def facts(self) -> dict[str, Any]:
        """Steps, time, throughput, size; steps alone while it trains."""
        facts = {name: self.results.get(name) for name in FACTS}
        if not self.results:
            facts["steps"] = int(self.curves[-1]["step"]) if self.curves else 0
        seconds = facts["seconds"]
        return {**facts, "steps_per_second": round(facts["steps"] / seconds, 3) if seconds else None}

    @cached_property
    def originals(self) -> "Tensor | None":
        """The fixed images, float `(N, 3, H, W)` in [0, 1]; None if training has not begun."""
        steps = self.picture_steps
        return self._grid(steps[0])[0] if steps else None

    @property
    def picture_steps(self) -> list[int]:
        """Steps of which reconstructions of the fixed images are kept."""
        return sorted(int(path.stem) for path in (self.folder / PICTURES).glob("[0-9]*.png"))

    def reconstructions(self, step: int) -> "Tensor":
        """Read the reconstructions of the fixed images after so many steps, float `(N, 3, H, W)` in [0, 1]."""
        return self._grid(step)[1]

    def load(self) -> "LitAutoencoder":
        """Load the trained variant, from its last checkpoint.

        Raises:
            FileNotFoundError: if there is none.
        """
        from losslens.training.module import load_module

        path = self.folder / CHECKPOINT
        if not path.exists():
            raise FileNotFoundError(f"{self.name} has no checkpoint yet: its status is {self.status['status']}")
        return load_module(path)

    def _grid(self, step: int) -> "tuple[Tensor, Tensor]":
        from losslens.training.grid import read_grid  # and torch, for which a table need not wait

        if step not in self._grids:
            self._grids[step] = read_grid(self.folder / PICTURES / f"{step:08d}.png")
        return self._grids[step]

    @cached_property
    def _grids(self) -> "dict[int, tuple[Tensor, Tensor]]":
        """What was read already: each grid is shown several times."""
        return {}

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left: its variants by name, in their order.

    Args:
        folder: of the sweep.
        variants: by name.
        losses: names of the losses that all variants are measured with.
        varied: names of the values that differ between the variants.
    """

    folder: Path
    variants: dict[str, VariantResult] = field(repr=False)
    losses: list[str]
    varied: list[str]

    @property
    def done(self) -> list[VariantResult]:
        """The variants that trained to the end."""
        return [variant for variant in self.variants.values() if variant.done]

    @cached_property
    def baselines(self) -> list[Baseline]:
        """What is reached without training, as far as it was measured."""
        return read_baselines(self.folder)

    @property
    def left_out(self) -> list[str]:
        """Why other baselines were not measured."""
        return read_reasons(self.folder)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a variant: name, what differs, metrics (`val/...`), losses (`loss/...`), study, facts, status."""
        metrics = dict.fromkeys(name for variant in self.variants.values() for name in variant.metrics)
        studied = [study_columns(variant.results.get("study", {})) for variant in self.variants.values()]
        names = dict.fromkeys(name for columns in studied for name in columns)
        return [
            {"variant": variant.name}
            | {name: variant.values.get(name) for name in self.varied}
            | {f"val/{name}": variant.metrics.get(name) for name in metrics}
            | {f"loss/{name}": variant.results.get("losses", {}).get(name) for name in self.losses}
            | {name: columns.get(name) for name in names}
            | variant.facts
            | {"folder": os.path.relpath(variant.folder, self.folder), **variant.status}
            for variant, columns in zip(self.variants.values(), studied, strict=True)
        ]

    @property
    def table(self) -> "pandas.DataFrame":
        """The rows as a table, indexed by the variants' names."""
        import pandas  # which the first step need not wait for

        return pandas.DataFrame(self.rows).set_index("variant")

    def __getitem__(self, name: str) -> VariantResult:
        """Return the variant of that name.

        Raises:
            KeyError: if there is none.
        """
        if name not in self.variants:
            raise KeyError(f"no variant {name}: there are {', '.join(self.variants)}")
        return self.variants[name]


def write_sweep_file(folder: Path, variants: Sequence[Variant], losses: Mapping[str, Any]) -> None:
    """Write `sweep.json`, the table of contents of a sweep's folder, before anything trains.

    Args:
        folder: of the sweep.
        variants: with folders inside of it.
        losses: all configurations of losses, by name.
    """
    entries = [
        {
            "name": variant.name,
            "folder": os.path.relpath(variant.folder, folder),
            "values": dict(variant.values),
            "threads": variant.threads,
            "own_loss": next(name for name, config in losses.items() if config == variant.config["loss"]),
        }
        for variant in variants
    ]
    keys = dict.fromkeys(key for variant in variants for key in variant.values)
    varied = [key for key in keys if len({repr(variant.values.get(key)) for variant in variants}) > 1]
    write_json(folder / SWEEP_FILE, {"variants": entries, "losses": list(losses), "varied": varied or ["loss"]})


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """Read `sweep.json`; a ValueError says if it is damaged."""
    file = folder / SWEEP_FILE
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
        assert isinstance(contents, dict)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{file} is damaged ({error}): bring back a copy, or begin a new sweep") from error
    return contents


def load_sweep(path: Path | str) -> SweepResult:
    """Read what a sweep or a single run has left so far, also while it runs and where variants failed.

    Args:
        path: folder of the sweep.

    Raises:
        ValueError: if that is not the folder of a sweep.
    """
    folder = Path(path)
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} has no {SWEEP_FILE}: give the folder of a sweep, such as outputs/sweeps/DATE-TIME")
    contents = read_sweep_file(folder)
    variants = {
        entry["name"]: VariantResult(entry["name"], folder / entry["folder"], entry["values"], entry["own_loss"])
        for entry in contents["variants"]
    }
    return SweepResult(folder, variants, contents["losses"], contents["varied"])


def join_sweeps(sweeps: Mapping[str, SweepResult], folder: Path) -> SweepResult:
    """Set several sweeps beside each other, to be compared in a folder of its own.

    Args:
        sweeps: by the names with which the names of their variants are to begin. Losses of one name are taken for
            the same.
        folder: for what is made of them.

    Raises:
        ValueError: if a loss's name means different things in two of them.
    """
    meanings: dict[str, tuple[str, Any]] = {}
    for name, sweep in sweeps.items():
        for variant in sweep.variants.values():
            if not variant.config:
                continue
            other, meaning = meanings.setdefault(variant.own_loss, (name, variant.config["loss"]))
            if meaning != variant.config["loss"]:
                raise ValueError(
                    f"loss {variant.own_loss} of {name} is another one than that of {other}: "
                    "they cannot be set beside each other; give each sweep alone"
                )
    joined = [
        replace(variant, name=f"{name}/{variant.name}", values={"sweep": name, **variant.values})
        for name, sweep in sweeps.items()
        for variant in sweep.variants.values()
    ]
    losses = dict.fromkeys(loss for sweep in sweeps.values() for loss in sweep.losses)
    varied = dict.fromkeys(["sweep", *(key for sweep in sweeps.values() for key in sweep.varied)])
    return SweepResult(folder, {variant.name: variant for variant in joined}, list(losses), list(varied))
