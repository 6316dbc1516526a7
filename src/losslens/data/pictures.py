"""Load pictures of any size and mode as images."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from losslens.console import joined_lines
from losslens.data.folder import to_rgb


def open_picture(path: Path | str, size: int | None = None) -> Image.Image:
    """Open a file as an upright RGB picture, transparent pixels laid on white.

    Args:
        path: any format that Pillow opens.
        size: in pixels; a JPEG may be decoded at a reduced size, at least twice this. None: at its own size.

    Raises:
        ValueError: if the file cannot be read, or is so large that decoding it would exhaust the memory.
    """
    try:
        with warnings.catch_warnings(), Image.open(Path(path).expanduser()) as opened:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if size is not None:
                opened.draft(None, (2 * size, 2 * size))
            return to_rgb(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else joined_lines(error)
        raise ValueError(f"{path} cannot be read ({reason})") from error


def as_images(picture: Path | str | Image.Image | Tensor | np.ndarray) -> Tensor:
    """Convert a picture to images.

    Args:
        picture: a file; a Pillow image; an array `(H, W, 3)`; or a tensor `(3, H, W)` or `(N, 3, H, W)`. Arrays and
            tensors are uint8, or float in [0, 1].

    Returns:
        Float32 `(N, 3, H, W)` in [0, 1].

    Raises:
        ValueError: if a file cannot be read, or numbers are of another shape, type or range.
    """
    if isinstance(picture, str | Path):
        picture = open_picture(picture)
    if isinstance(picture, Image.Image):
        picture = np.array(to_rgb(ImageOps.exif_transpose(picture)))
    images = (
        torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0) if isinstance(picture, np.ndarray) else picture
    )
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"picture has shape {tuple(picture.shape)}: give an array (H, W, 3) or a tensor (3, H, W) or (N, 3, H, W)"
        )
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"picture is {images.dtype}, from {images.min()} to {images.max()}: give uint8, or [0, 1]")
    return images.float()
