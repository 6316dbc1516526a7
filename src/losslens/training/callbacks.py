"""What happens beside the training of a variant: numbers, checkpoints; and beside that of an array: progress."""

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from losslens.files import write, write_text
from losslens.training.array import VariantArray
from losslens.training.listener import DescribeVariants
from losslens.training.metrics import METRICS, SUBSPACE_METRICS
from losslens.training.variant_trainer import VariantTrainer


class MetricsTable(L.Callback):
    """Write `metrics.csv`, a row per validation, and keep the metrics of the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: list[str] = []
        self._last: dict[str, float] = {}
        self._text = io.StringIO()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row and write the table whole."""
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            rows = list(csv.DictReader(io.StringIO(self._text.getvalue())))
            self._text = io.StringIO()
            self._writer = csv.DictWriter(self._text, self._columns, lineterminator="\n")
            self._writer.writeheader()
            self._writer.writerows(rows)
        self._writer.writerow(row)
        self._last = row
        write_text(self.folder / "metrics.csv", self._text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the table so far."""
        return {"columns": self._columns, "last": self._last, "text": self._text.getvalue()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on below the rows of `state_dict`."""
        self._columns, self._last = list(state_dict["columns"]), dict(state_dict["last"])
        self._text = io.StringIO()
        self._text.write(state_dict["text"])
        self._writer = csv.DictWriter(self._text, self._columns, lineterminator="\n")

    @property
    def final(self) -> dict[str, float]:
        """Metrics of the last validation, by name without `val/`."""
        last = self._last
        return {name: last[f"val/{name}"] for name in (*METRICS, *SUBSPACE_METRICS) if f"val/{name}" in last}


class Checkpoints(L.Callback):
    """Write `checkpoints/last.ckpt` at every validation, and `best.ckpt` where `val/loss` is lowest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoints"
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the lowest loss of `state_dict`."""
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write one or both."""
        self.folder.mkdir(exist_ok=True)
        last, best = self.folder / "last.ckpt", self.folder / "best.ckpt"
        write(last, trainer.save_checkpoint)
        loss = trainer.callback_metrics["val/loss"].item()
        if loss < self.best or not best.exists():
            self.best = loss
            write(best, lambda aside: shutil.copyfile(last, aside))


class StepReport(L.Callback):
    """Tell how far an array is after every chunk of steps.

    Args:
        report: takes the share of the steps that is done, and a function that returns for each variant its `step`, the
            number of `steps` and its last `loss`.
    """

    def __init__(self, report: Callable[[float, DescribeVariants], None]) -> None:
        self.report = report

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the share."""
        assert isinstance(pl_module, VariantArray)
        steps, members = pl_module.members[0].estimated_stepping_batches, pl_module.members

        def progress() -> dict[str, dict[str, float | None]]:
            return {
                member.name: {"step": member.global_step, "steps": steps, "loss": _last_loss(member)}
                for member in members
            }

        self.report(trainer.global_step / steps, progress)


def _last_loss(member: VariantTrainer) -> float | None:
    loss = member.callback_metrics.get("train/loss")
    return None if loss is None else float(loss)
