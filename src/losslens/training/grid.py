"""Pictures of fixed images and their reconstructions: never rescaled, only clamped."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from PIL import Image, PngImagePlugin
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torchvision.utils import make_grid

from losslens.files import write
from losslens.training.logger import RunLogger
from losslens.variant import PICTURES

NUM_COLUMNS = "columns"  # key of a text inside of the PNG
PADDING = 2  # white pixels around every image of a grid
# TensorBoard keeps ten pictures of a tag by default, others are dropped at random: the first, eight between, the last.
MAX_GRIDS_BETWEEN = 8


class ImageGrid(L.Callback):
    """Set fixed originals above their reconstructions: `grid.png` at every validation.

    Of some validations, the first and the last picture among them, TensorBoard gets the grid and a map of the errors,
    and the grid is kept in `pictures/`, from which sheets are made.

    Args:
        images: float `(N, 3, H, W)` in [0, 1], the same for every variant.
        folder: of the variant.
    """

    def __init__(self, images: Tensor, folder: Path) -> None:
        self.images = images
        self.folder = folder
        self.reconstructions = images
        self._num_validations = 0
        self._step = self._logged_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return what was drawn last, and how much was logged."""
        return {
            "reconstructions": self.reconstructions,
            "step": self._step,
            "num_validations": self._num_validations,
            "logged_step": self._logged_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.reconstructions = state_dict["reconstructions"]
        self._step = state_dict["step"]
        self._num_validations = state_dict["num_validations"]
        self._logged_step = state_dict["logged_step"]
        self._encode()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show what the untrained network makes of the images."""
        (self.folder / PICTURES).mkdir(exist_ok=True)
        if self._logged_step >= 0:  # it goes on from a state
            return
        pl_module.eval()
        with torch.no_grad():
            self._render(trainer, pl_module)
        pl_module.train()
        self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Render, and log where the choice of steps says so."""
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
        self._image = encode(to_pil(grid([self.images, self.reconstructions])), len(self.images))

    def _log(self, trainer: L.Trainer) -> None:
        if self._step == self._logged_step:
            return
        self._logged_step = self._step
        png = self._image.encoded_image_string
        write(self.folder / PICTURES / f"{self._step:08d}.png", lambda path: path.write_bytes(png))
        errors = encode(to_pil(grid([(self.reconstructions - self.images).abs()])))
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.add_picture("originals above reconstructions", self._image, self._step)
                logger.add_picture("per-channel absolute errors", errors, self._step)


def logged_validations(planned: int | None) -> set[int]:
    """Choose the validations, counted from 1, whose grids are logged besides the first and the last picture.

    Args:
        planned: how many validations there will be; None if nobody knows.

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


def grid(rows: Sequence[Tensor]) -> Tensor:
    """Set images in rows, the same image in the same column.

    Args:
        rows: float images `(N, 3, H, W)`, of equal shapes.

    Returns:
        Float `(3, height, width)` in [0, 1], pixel by pixel.
    """
    picture: Tensor = make_grid(
        torch.cat([row.clamp(0, 1) for row in rows]), nrow=len(rows[0]), padding=PADDING, pad_value=1.0
    )
    return picture


def to_pil(picture: Tensor) -> Image.Image:
    """Make a Pillow image of a float picture `(3, height, width)` in [0, 1]."""
    return Image.fromarray((picture * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def read_grid(path: Path) -> tuple[Tensor, Tensor]:
    """Read a grid of originals above their reconstructions, as this module writes it.

    Returns:
        Both as float images `(N, 3, H, W)` in [0, 1], whose values are multiples of 1/255.

    Raises:
        ValueError: if the file is no such grid.
    """
    with Image.open(path) as picture:
        count = int(getattr(picture, "text", {}).get(NUM_COLUMNS, 0))
        if count < 1:
            raise ValueError(f"{path} does not say how many images it holds: it was not written by a training")
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0).float() / 255
    cells = [row.chunk(count, dim=-1) for row in pixels[:, PADDING:, PADDING:].chunk(2, dim=-2)]
    originals, reconstructions = (torch.stack(row)[..., :-PADDING, :-PADDING] for row in cells)
    return originals, reconstructions


def encode(picture: Image.Image, num_columns: int = 1) -> Summary.Image:
    """Encode a picture as TensorBoard keeps it, as PNG, which says how many images stand side by side in it."""
    info = PngImagePlugin.PngInfo()
    info.add_text(NUM_COLUMNS, str(num_columns))
    encoded = io.BytesIO()
    # A tenth larger than with the default level, in a third of the time.
    picture.save(encoded, format="PNG", compress_level=2, pnginfo=info)
    return Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
    )
