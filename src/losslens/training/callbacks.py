"""Callbacks of a variant: metrics, checkpoints, pictures; and of an array: progress."""

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from losslens.files import write, write_text
from losslens.pictures.grid import grid, png_summary, to_pil
from losslens.training.array import VariantArray
from losslens.training.listener import DescribeVariants
from losslens.training.logger import RunLogger
from losslens.training.metrics import METRICS, SUBSPACE_METRICS
from losslens.training.variant_trainer import VariantTrainer
from losslens.variant import PICTURES

# TensorBoard keeps ten pictures per tag and drops others at random: log the first, eight between, the last.
MAX_GRIDS_BETWEEN = 8


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
        """Resume after the rows of `state_dict`."""
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
        """Resume with the lowest loss of `state_dict`."""
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write `last.ckpt`, and `best.ckpt` if the loss is lowest."""
        self.folder.mkdir(exist_ok=True)
        last, best = self.folder / "last.ckpt", self.folder / "best.ckpt"
        write(last, trainer.save_checkpoint)
        loss = trainer.callback_metrics["val/loss"].item()
        if loss < self.best or not best.exists():
            self.best = loss
            write(best, lambda aside: shutil.copyfile(last, aside))


class ImageGrid(L.Callback):
    """Set fixed originals above their reconstructions: `grid.png` at every validation.

    Of some validations, the first and the last picture among them, TensorBoard gets the grid and a map of the errors,
    and the grid is kept in `pictures/`, from which sheets are made.

    Args:
        images: float `(N, 3, H, W)` in [0, 1], the same for every variant.
    """

    def __init__(self, images: Tensor, folder: Path) -> None:
        self.images = images
        self.folder = folder
        self.reconstructions = images
        self._num_validations = 0
        self._step = self._logged_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return the last reconstructions, and how many were logged."""
        return {
            "reconstructions": self.reconstructions,
            "step": self._step,
            "num_validations": self._num_validations,
            "logged_step": self._logged_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.reconstructions = state_dict["reconstructions"]
        self._step = state_dict["step"]
        self._num_validations = state_dict["num_validations"]
        self._logged_step = state_dict["logged_step"]
        self._encode()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the reconstructions of the untrained network."""
        (self.folder / PICTURES).mkdir(exist_ok=True)
        if self._logged_step >= 0:  # it is resumed
            return
        pl_module.eval()
        with torch.no_grad():
            self._render(trainer, pl_module)
        pl_module.train()
        self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Render the grid, and log it at chosen validations."""
        self._render(trainer, pl_module)
        self._num_validations += 1
        if self._num_validations in logged_validations(_planned_validations(trainer)):
            self._log(trainer)

    def finish(self, trainer: L.Trainer) -> None:
        """Log the last grid if it is not logged yet."""
        self._log(trainer)

    def _render(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        precision = trainer.precision_plugin
        images = precision.convert_input(self.images.to(pl_module.device))
        with precision.forward_context():
            self.reconstructions = pl_module(images).float().clamp(0, 1).cpu()
        self._encode()
        png = self._image.encoded_image_string
        write(self.folder / "grid.png", lambda path: path.write_bytes(png))
        self._step = trainer.global_step

    def _encode(self) -> None:
        self._image = png_summary(to_pil(grid([self.images, self.reconstructions])), len(self.images))

    def _log(self, trainer: L.Trainer) -> None:
        if self._step == self._logged_step:
            return
        self._logged_step = self._step
        png = self._image.encoded_image_string
        write(self.folder / PICTURES / f"{self._step:08d}.png", lambda path: path.write_bytes(png))
        errors = png_summary(to_pil(grid([(self.reconstructions - self.images).abs()])))
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.add_picture("originals above reconstructions", self._image, self._step)
                logger.add_picture("per-channel absolute errors", errors, self._step)


def logged_validations(planned: int | None) -> set[int]:
    """Choose the validations, counted from 1, whose grids are logged in addition to the first and the last picture.

    Args:
        planned: number of validations; None if unknown.

    Returns:
        All if they are few, else `MAX_GRIDS_BETWEEN` evenly spaced, or powers of two for an unknown number.
    """
    if planned is None:
        return {2**power for power in range(MAX_GRIDS_BETWEEN)}
    if planned <= MAX_GRIDS_BETWEEN + 1:
        return set(range(1, planned + 1))
    return {round(index * planned / (MAX_GRIDS_BETWEEN + 1)) for index in range(1, MAX_GRIDS_BETWEEN + 1)}


def _planned_validations(trainer: L.Trainer) -> int | None:
    every = trainer.check_val_every_n_epoch
    if every is None or trainer.val_check_batch != trainer.num_training_batches or trainer.num_training_batches == 0:
        return None
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        return None
    epochs = -(-int(steps) * trainer.accumulate_grad_batches // int(trainer.num_training_batches))
    return int(epochs) // every


class StepReport(L.Callback):
    """Report the progress of an array.

    Args:
        report: called after each chunk with the fraction of steps done, and a function that returns for each variant
            its `step`, the number of `steps` and its last `loss`.
    """

    def __init__(self, report: Callable[[float, DescribeVariants], None]) -> None:
        self.report = report

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the fraction done."""
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
