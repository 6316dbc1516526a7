"""Codes of a trained variant in TensorBoard's Projector."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.tensorboard import SummaryWriter

from losslens.losses.color import COLOR_DIRECTIONS
from losslens.losses.views import LinearView

MAX_CODES = 100  # points in the Projector
MAX_SPRITE_SIDE = 32  # pixels of an image in the Projector


def evenly(count: int, most: int) -> list[int]:
    """Choose at most that many places of a row, evenly spaced."""
    chosen = min(count, most)
    return [index * count // chosen for index in range(chosen)]


def rotated(codes: Tensor) -> Tensor:
    """Rotate N codes, `(N, D)`, into the N dimensions that they span at most: all distances and angles stay.

    TensorBoard writes every number as text, which for numbers of a whole code takes longer than their variant's steps.
    """
    left, scales, _ = torch.linalg.svd(codes.double(), full_matrices=False)
    kept: Tensor = left * scales
    return kept


def add_codes(writer: SummaryWriter, codes: Tensor, images: Tensor, step: int) -> None:
    """Write codes for the Projector, rotated, each with its image and its image's mean color.

    Args:
        writer: of the variant.
        codes: `(N, C, h, w)`.
        images: float `(N, 3, H, W)` in [0, 1], of which these are the codes.
        step: of the training.
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
