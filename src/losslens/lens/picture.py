"""The picture on which losses are measured."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from losslens.data.pictures import open_picture, quiet_pillow

DEFAULT = "data/chelsea.png"  # from scikit-image; CC0; midtones leave losses most room
SECOND = "data/astronaut.png"  # from scikit-image; NASA, public domain


def read_picture(file: str | None, size: int) -> tuple[Tensor, str]:
    """Read a picture, upright, with its longer side reduced to `size` pixels; a smaller one stays as it is.

    Args:
        file: any format that Pillow opens; None for the cat that ships with scikit-image.

    Returns:
        Float64 `(1, 3, H, W)` in [0, 1], and the picture's name.

    Raises:
        ValueError: if the file cannot be read, or `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size {size} is not 1 or more: try size=128")
    path = _shipped(DEFAULT) if file is None else Path(file)
    try:
        with quiet_pillow():
            upright = open_picture(path, 2 * size).image
    except ValueError as error:
        raise ValueError(f"image {error}: give another with image=FILE") from error
    if max(upright.size) > size:
        scale = size / max(upright.size)
        width, height = (max(1, round(side * scale)) for side in upright.size)
        upright = upright.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
    pixels = torch.from_numpy(np.array(upright)).movedim(-1, 0)[None].double() / 255
    return pixels, os.fsencode(path.name).decode(errors="replace")


def second_photograph(image: Tensor) -> Tensor:
    """Return another photograph of the shape and precision of an image, as a start of searches."""
    height, width = image.shape[-2:]
    photograph = ImageOps.fit(Image.open(_shipped(SECOND)).convert("RGB"), (width, height))
    return torch.from_numpy(np.array(photograph)).movedim(-1, 0)[None].to(image) / 255


def _shipped(file: str) -> Path:
    spec = find_spec("skimage")  # the package itself is not imported: that takes a second
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / file
