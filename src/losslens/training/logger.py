"""TensorBoard for a variant: one run, named by its folder, its row in the HParams tab, its codes in the Projector.

Lightning's `log_hyperparams` and torch's `add_hparams` would add a made-up metric and a nested run.
"""

from pathlib import Path

import google_crc32c
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer import record_writer
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from losslens.losses.color import COLOR_DIRECTIONS
from losslens.losses.views import LinearView
from losslens.variant import HParam

MAX_CODES = 100  # points in the Projector
MAX_SPRITE_SIDE = 32  # pixels of an image in the Projector


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of a record of TensorBoard's event files."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# TensorBoard's own reads every byte of every picture in Python, and blocks all other threads for seconds.
record_writer.masked_crc32c = masked_crc32c


class RunLogger(TensorBoardLogger):
    """Write events into the variant's folder itself.

    Args:
        first_step: at which it resumes: TensorBoard drops what an earlier process wrote after that.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        begun = any(folder.glob("events.*"))
        purge_step = first_step + 1 if first_step else 0 if begun else None
        super().__init__(folder.resolve(), name="", version="", default_hp_metric=False, purge_step=purge_step)

    @rank_zero_only
    def save(self) -> None:
        """Flush events; the configuration is in `config.yaml`, so there is no `hparams.yaml`."""
        self.experiment.flush()

    def open_session(self, values: dict[str, HParam], metrics: list[str]) -> None:
        """Announce the variant in the HParams tab: its values, and the tags under which its metrics will come."""
        experiment, start, _ = hparams(values, dict.fromkeys(metrics, 0.0))
        for summary in (experiment, start):
            self.experiment._get_file_writer().add_summary(summary)

    def add_picture(self, tag: str, image: Summary.Image, step: int) -> None:
        """Log an image that is already encoded."""
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self.experiment._get_file_writer().add_summary(summary, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush only: the Trainer calls this after fitting, when the last picture is still to come."""
        self.experiment.flush()

    def close_session(self) -> None:
        """Mark the variant as finished in the HParams tab, and close the file."""
        self.experiment._get_file_writer().add_summary(hparams({}, {})[2])
        self.experiment.close()


def rotated(codes: Tensor) -> Tensor:
    """Rotate N codes, `(N, D)`, into the N dimensions that they span at most: all distances and angles stay.

    TensorBoard writes every number as text, which for whole codes would take longer than their variant's training.
    """
    left, scales, _ = torch.linalg.svd(codes.double(), full_matrices=False)
    kept: Tensor = left * scales
    return kept


def add_codes(writer: SummaryWriter, codes: Tensor, images: Tensor, step: int) -> None:
    """Write codes for the Projector, rotated, each with its image and its image's mean color.

    Args:
        codes: `(N, C, h, w)`.
        images: float `(N, 3, H, W)` in [0, 1], of which these are the codes.
    """
    means = LinearView(list(COLOR_DIRECTIONS.values()))(images.mean((2, 3), keepdim=True))[:, :, 0, 0]
    side = max(images.shape[-2:])
    if side > MAX_SPRITE_SIDE:
        images = interpolate(images, scale_factor=MAX_SPRITE_SIDE / side, mode="area")
    writer.add_embedding(
        rotated(codes.flatten(1)).round(decimals=3),
        metadata=[[index, *(f"{value:.3f}" for value in row)] for index, row in enumerate(means.tolist())],
        metadata_header=["image", *COLOR_DIRECTIONS],
        label_img=images,
        global_step=step,
        tag="codes",
    )
