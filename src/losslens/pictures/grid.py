"""Grids of images: never rescaled, only clamped."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torchvision.utils import make_grid

from losslens.files import write

NUM_COLUMNS = "columns"  # text key of the PNG
PADDING = 2  # white pixels around every image of a grid


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


def png_summary(picture: Image.Image, num_columns: int = 1) -> Summary.Image:
    """Encode a picture for TensorBoard, as a PNG whose text says how many images stand side by side."""
    info = PngImagePlugin.PngInfo()
    info.add_text(NUM_COLUMNS, str(num_columns))
    encoded = io.BytesIO()
    # A tenth larger than with the default level, in a third of the time.
    picture.save(encoded, format="PNG", compress_level=2, pnginfo=info)
    return Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
    )


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` indices below `count`, evenly spaced."""
    chosen = min(count, most)
    return [index * count // chosen for index in range(chosen)]


def write_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a picture atomically, in the format of the path's suffix, with Pillow's options for that format."""
    write(path, lambda aside: picture.save(aside, format=path.suffix[1:].upper(), **options))
