"""What happens beside the training of a variant: numbers, the watch for NaN, progress."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from losslens.files import write_text
from losslens.training.metrics import METRICS


class MetricsTable(L.Callback):
    """Write `metrics.csv`, a row per validation, and keep the metrics of the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row and write the table whole."""
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append(row)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / "metrics.csv", text.getvalue())

    @property
    def final(self) -> dict[str, float]:
        """Metrics of the last validation, by name without `val/`."""
        return {name: self.rows[-1][f"val/{name}"] for name in METRICS}


class StopAtNaN(L.Callback):
    """Stop with the step and the value as soon as the loss is not finite.

    On a GPU, looking at every loss would make the host wait for every step; so the first bad step is kept on the device
    and looked at only every `log_every_n_steps` steps and at the end of an epoch.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss, and look at it if that is cheap or due."""
        loss = outputs["loss"].detach()
        self._remember(trainer.global_step, loss)
        every = 1 if loss.device.type == "cpu" else trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (batch_idx + 1) % every == 0:
            self._check()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what the epoch brought."""
        self._check()

    def _remember(self, step: int, loss: Tensor) -> None:
        """Keep the latest step and loss, or the first that is not finite, without a look from the host."""
        latest = torch.stack([torch.full_like(loss, step, dtype=torch.float32), loss.float()])
        kept = self._kept
        self._kept = latest if kept is None else torch.where(kept[1].isfinite(), latest, kept)

    def _check(self) -> None:
        if self._kept is None:
            return
        step, loss = self._kept.tolist()
        if loss - loss != 0:  # true for NaN and both infinities
            raise ValueError(
                f"the loss is {loss} at step {step:.0f}: lower the learning rate (optimizer.lr=...), "
                "clip gradients (trainer.gradient_clip_val=1), or mend the loss"
            )


class StepReport(L.Callback):
    """Tell how far training is: calls `report(steps done, steps in all)` after every step."""

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self.report = report

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step."""
        self.report(trainer.global_step, trainer.estimated_stepping_batches)
