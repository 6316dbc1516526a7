"""Drawn shapes whose color is independent of their form and brightness: color cannot be guessed from anything else."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from losslens.data.source import Images, Source
from losslens.losses.color import ycbcr_601_to_rgb

NUM_SHAPES = 3
DRAWN_AT_ONCE = 500  # bounds the memory that drawing takes


@dataclass(kw_only=True)
class Shapes(Source):
    """Disks, squares, triangles and rings on a plain ground, with smooth edges.

    Every shape and ground draws its form, luma in [0.3, 0.7], hue in the Cb-Cr plane and chroma independently. Chroma
    is small enough that every hue fits into [0, 1] at every luma, which is what makes them independent.

    Args:
        image_size: side of the images in pixels.
    """

    image_size: int
    train_size: int
    val_size: int

    def decode(self) -> Images:
        """Draw all images."""
        if min(self.image_size, self.train_size, self.val_size) < 1:
            raise ValueError(
                f"image_size {self.image_size}, train_size {self.train_size} and val_size {self.val_size} "
                "must all be 1 or more"
            )
        generator = torch.Generator().manual_seed(self.seed)
        train, val = (self._draw_all(count, generator) for count in (self.train_size, self.val_size))
        return Images(train=train, val=val)

    def _draw_all(self, count: int, generator: torch.Generator) -> Tensor:
        counts = [min(DRAWN_AT_ONCE, count - start) for start in range(0, count, DRAWN_AT_ONCE)]
        return torch.cat([_draw(part, self.image_size, generator) for part in counts])


def _draw(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Paint `NUM_SHAPES` shapes over a ground; returns uint8 `(count, 3, size, size)`."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, generator=generator) * (high - low) + low

    axis = (torch.arange(size) + 0.5) / size
    images = _color(uniform(0.3, 0.7), uniform(0, 2 * pi), uniform(0.05, 0.16)).expand(-1, -1, size, size)
    for _ in range(NUM_SHAPES):
        x, y = axis - uniform(0.15, 0.85), axis[:, None] - uniform(0.15, 0.85)
        angle, radius = uniform(0, 2 * pi), uniform(0.1, 0.3)
        x, y = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        distances = _signed_distances(x, y, radius)
        form = torch.randint(len(distances), (count,), generator=generator)
        distance = distances[form, torch.arange(count)]
        coverage = (0.5 - distance * size).clamp(0, 1)[:, None]
        color = _color(uniform(0.3, 0.7), uniform(0, 2 * pi), uniform(0.05, 0.16))
        images = images + coverage * (color - images)
    return (images * 255).round().to(torch.uint8)


def _signed_distances(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Return the distance to the edge of each form, negative inside; coordinates and radius in units of the side."""
    disk = torch.hypot(x, y) - radius
    square = torch.maximum(x.abs(), y.abs()) - 0.8 * radius
    triangle = torch.maximum(y, 0.866 * x.abs() - 0.5 * y) - 0.5 * radius
    ring = disk.abs() - 0.25 * radius
    return torch.stack([disk, square, triangle, ring])


def _color(luma: Tensor, hue: Tensor, chroma: Tensor) -> Tensor:
    """Return RGB `(N, 3, 1, 1)` of a luma and a direction and length in the Cb-Cr plane, ITU-R BT.601-7, 2.5."""
    cb, cr = chroma * hue.cos(), chroma * hue.sin()
    return ycbcr_601_to_rgb(luma, cb, cr).movedim(-1, 1)
