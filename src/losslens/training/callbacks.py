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
from losslens.training.metrics import METRICS, SUBSPACE_METRICS


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
    """Tell how far an array is: calls `report(share of the steps that is done)` after every chunk of steps."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self.report = report

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the share."""
        assert isinstance(pl_module, VariantArray)
        self.report(trainer.global_step / pl_module.members[0].trainer.estimated_stepping_batches)
