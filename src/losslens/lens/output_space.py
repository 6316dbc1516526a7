"""The colors that a trained network can return: for every hue, for noise, and between two codes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from losslens.losses import LinearView
from losslens.losses.color import CB_601, CR_601, ycbcr_601_to_rgb

Apply = Callable[[Tensor], Tensor]

HUES = 24
RINGS = 4
LARGEST_CHROMA = 0.28  # in the Cb-Cr plane: the largest at which every hue fits into [0, 1] at the wheel's luma
WHEEL_LUMA = 0.5
AT_ONCE = 32  # images


@dataclass(frozen=True)
class Wheel:
    """A color wheel and what a network returns for it.

    The wheel has one luma; its angle is the hue in the Cb-Cr plane, its radius the chroma.

    Args:
        given: colors `(RINGS, HUES, 3)`, ring by ring outwards; each was shown as a uniform image.
        returned: mean colors of the reconstructions, in the same order; not clamped.
    """

    given: Tensor
    returned: Tensor

    @property
    def hue_kept(self) -> float:
        """How well hues keep their order and place: the mean resultant length of their turns on the outer ring.

        1 if every hue comes back as itself, or all turned by the same angle; near 0 if all come back as one hue.
        """
        turns = _hues(self.returned[-1]) - _hues(self.given[-1])
        return float(torch.polar(torch.ones_like(turns), turns).mean().abs())


@dataclass(frozen=True)
class Axes:
    """Principal axes of colors.

    Args:
        directions: orthonormal rows `(3, 3)`, the one of largest variance first.
        shares: of the variance along each `(3,)`; all 0 if there is one color only.
    """

    directions: Tensor
    shares: Tensor

    @property
    def two_color_index(self) -> float:
        """First principal share: 1 if all pixels lie on one line through RGB, so that every picture has two colors."""
        return float(self.shares[0])


def color_wheel(reconstruct: Apply, size: tuple[int, int]) -> Wheel:
    """Show a network a uniform image of every color of a wheel.

    Args:
        reconstruct: from images `(N, 3, H, W)` to reconstructions.
        size: H and W of the images, in pixels.
    """
    angles = torch.arange(HUES) * (2 * pi / HUES)
    radii = torch.arange(1, RINGS + 1) * (LARGEST_CHROMA / RINGS)
    given = wheel_colors(radii[:, None], angles[None])
    images = given.reshape(-1, 3, 1, 1).expand(-1, -1, *size)
    with torch.no_grad():
        returned = torch.cat([reconstruct(batch).float().mean((2, 3)).cpu() for batch in images.split(AT_ONCE)])
    return Wheel(given, returned.view_as(given))


def wheel_colors(chroma: Tensor, angle: Tensor) -> Tensor:
    """Return RGB `(..., 3)` at the wheel's luma, for a chroma and an angle in the Cb-Cr plane."""
    return ycbcr_601_to_rgb(torch.tensor(WHEEL_LUMA), chroma * angle.cos(), chroma * angle.sin())


def draw_wheel(colors: Tensor, side: int) -> Tensor:
    """Draw colors `(RINGS, HUES, 3)` as a disk on white, clamped; returns float `(3, side, side)`."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    right, up = axis[None], -axis[:, None]
    radius = torch.hypot(right, up)
    hue = (torch.atan2(up.expand_as(radius), right.expand_as(radius)) / (2 * pi) * HUES).round().long() % HUES
    ring = (radius * RINGS).long().clamp(max=RINGS - 1)
    disk = colors.clamp(0, 1)[ring, hue].movedim(-1, 0)
    return torch.where(radius < 1, disk, 1.0)


def principal_axes(images: Tensor) -> Axes:
    """Find the principal axes of the pixels of float images `(N, 3, H, W)`."""
    pixels = images.movedim(1, -1).reshape(-1, 3).double().cpu()
    centered = pixels - pixels.mean(0)
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(pixels))
    variances = variances.flip(0).clamp(min=0)
    total = variances.sum()
    shares = variances / total if total > 1e-12 else torch.zeros(3, dtype=torch.float64)
    return Axes(directions.T.flip(0), shares)


def between(encode: Apply, decode: Apply, images: Tensor, count: int) -> Tensor:
    """Decode codes along the line between the codes of two images.

    Args:
        decode: its images may be larger than the originals; they are cropped.
        images: float `(2, 3, H, W)` in [0, 1].
        count: number of images, both ends included.

    Returns:
        `(count, 3, H, W)`; not clamped.
    """
    with torch.no_grad():
        first, last = encode(images)
        shares = torch.linspace(0, 1, count, device=first.device).view(-1, *[1] * first.ndim)
        decoded: Tensor = decode(first + shares * (last - first))
        return decoded[..., : images.shape[-2], : images.shape[-1]].float().cpu()


def _hues(colors: Tensor) -> Tensor:
    """Return the angles in the Cb-Cr plane of colors `(N, 3)`."""
    cb, cr = LinearView([CB_601, CR_601])(colors.T[None, :, :, None])[0, :, :, 0]
    return torch.atan2(cr, cb)
