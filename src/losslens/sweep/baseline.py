"""Baselines, results without training, as stored in a sweep's folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losslens.files import write_json
from losslens.sweep.stored import BASELINES, printable, read_object

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "baselines"


@dataclass(frozen=True)
class Baseline:
    """A result without training, measured as variants are.

    Args:
        name: unique within the sweep.
        beside: names of the variants that it is compared with, of the same data and code size.
        losses: values of the sweep's losses by name; None for a loss that cannot measure it.
    """

    name: str
    beside: list[str]
    metrics: dict[str, float]
    losses: dict[str, float | None]
    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """Its entry in `baselines.json`."""
        return {"name": self.name, "beside": self.beside, "metrics": self.metrics, "losses": self.losses}

    @property
    def row(self) -> dict[str, Any]:
        """Its row in the table of variants."""
        return (
            {"variant": self.name}
            | {f"val/{name}": value for name, value in self.metrics.items()}
            | {f"loss/{name}": value for name, value in self.losses.items()}
            | {"status": "baseline"}
        )

    @property
    def picture(self) -> Path:
        """File of the fixed images above their reconstructions."""
        return self.folder / FOLDER / f"{self.name.replace('/', '-').replace(chr(92), '-')}.png"

    @cached_property
    def reconstructions(self) -> "Tensor":
        """Its reconstructions of the fixed images, float `(N, 3, H, W)` in [0, 1]."""
        from losslens.pictures.grid import read_grid  # imports torch, which tables do not need

        return read_grid(self.picture)[1]


def write_baselines(folder: Path, found: Sequence[Baseline], left_out: Sequence[str]) -> None:
    """Write the measured baselines of a sweep, and why others were not measured."""
    write_json(_file(folder), {"measured": [each.facts for each in found], "left_out": list(left_out)})


def read_baselines(folder: Path) -> list[Baseline]:
    """Read the measured baselines; metrics that were not finite are absent.

    Raises:
        Damaged: if their file is not as it was written.
    """
    found = []
    for each in _read(folder).get("measured", []):
        metrics = {name: value for name, value in each["metrics"].items() if value is not None}
        found.append(Baseline(printable(each["name"]), each["beside"], metrics, each["losses"], folder))
    return found


def read_reasons(folder: Path) -> list[str]:
    """Read why other baselines were not measured."""
    return [printable(each) for each in _read(folder).get("left_out", [])]


def _read(folder: Path) -> dict[str, Any]:
    return read_object(_file(folder), BASELINES) if _file(folder).exists() else {}


def _file(folder: Path) -> Path:
    return folder / FOLDER / "baselines.json"
