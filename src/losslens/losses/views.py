"""Views: modules from images to the features that a loss compares."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from losslens.losses.color import CB_601, CR_601, LUMA_601, LUMA_709, Direction

TOLERANCE = 1e-5  # relative; weights are stored in float32
LEVEL = 1 / 255  # smallest difference of 8-bit values


def check_images(images: Tensor) -> None:
    """Check the shape of images.

    Raises:
        ValueError: unless it is `(N, 3, H, W)`.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, 3, H, W)")


def check_size(images: Tensor, name: str, side: int) -> None:
    """Check that images `(..., H, W)` are large enough.

    Args:
        side: smallest height and width, in pixels.

    Raises:
        ValueError: if they are smaller.
    """
    if min(images.shape[-2:]) < side:
        size = f"{images.shape[-2]}x{images.shape[-1]}"
        raise ValueError(f"images of {size} are too small for {name}: {side} pixels or more")


def precise(images: Tensor) -> Tensor:
    """Convert half precision to float32, for powers and transforms."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def unit(features: Tensor, dim: int = 1) -> Tensor:
    """Scale vectors to length 1, but by no more than 255, so that the gradient is finite at 0."""
    return features / features.square().sum(dim, keepdim=True).clamp(min=LEVEL**2).sqrt()


def project(weights: Tensor, images: Tensor) -> Tensor:
    """Return `weights`, `(K, 3)`, times red, green and blue at every pixel of `(N, 3, H, W)`: `(N, K, H, W)`."""
    # A product of matrices: a 1x1 convolution of three channels takes five times as long on a CPU.
    features = weights.to(images) @ images.flatten(2)
    return features.view(len(images), -1, *images.shape[2:])


def in_one_row(answers: Sequence[Tensor]) -> Tensor:
    """Return features of layers, `(N, ...)` each, as `(N, F)`, scaled so that with L1 every layer weighs the same."""
    rows = [answer.flatten(1) for answer in answers]
    return torch.cat([row * (rows[0].shape[1] / row.shape[1]) for row in rows], dim=1)


class LinearView(nn.Module):
    """Two images are equal when their projections `P` onto color directions are equal at every pixel.

    Formula: `features[k] = sum_c P[k, c] * images[c]`, pixel by pixel, on gamma-encoded values.
    Images `(N, 3, H, W)` give features `(N, K, H, W)` of the same dtype and device.
    Blind to every change along the null space of `P`, which has `3 - rank(P)` dimensions.

    Args:
        weights: `P`, K rows of 3 finite numbers.

    Raises:
        ValueError: if `weights` is not a K x 3 table of finite numbers.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[Sequence[float]]) -> None:
        super().__init__()
        rows = [[float(weight) for weight in row] for row in weights]
        if not rows or any(len(row) != 3 for row in rows):
            raise ValueError(
                f"weights {rows} is not a table of K rows of 3 numbers: give a row [red, green, blue] each"
            )
        table = torch.tensor(rows)
        if not table.isfinite().all():
            raise ValueError(f"weights {rows} has entries that are not finite: use numbers")
        self.register_buffer("weights", table, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Project `(N, 3, H, W)` to `(N, K, H, W)`."""
        check_images(images)
        return project(self.weights, images)

    def seen_axes(self) -> Tensor:
        """Return orthonormal directions of RGB, float64 `(rank, 3)`, that span what the features determine."""
        _, scales, axes = torch.linalg.svd(self.weights.double().cpu(), full_matrices=False)
        seen: Tensor = axes[scales > TOLERANCE * scales.max()]
        return seen

    def unseen_axes(self) -> Tensor:
        """Return orthonormal directions of RGB, float64 `(3 - rank, 3)`, that the features do not respond to."""
        seen = self.seen_axes()
        _, _, axes = torch.linalg.svd(seen if len(seen) else torch.zeros(1, 3, dtype=torch.float64))
        unseen: Tensor = axes[len(seen) :]
        return unseen

    def sees(self, direction: Direction) -> bool:
        """Return whether the features determine the image along `direction`, a vector in RGB."""
        axes = self.seen_axes()
        wanted = torch.tensor(direction, dtype=axes.dtype)
        unseen = wanted - axes.T @ (axes @ wanted)
        return bool(unseen.norm() < TOLERANCE * wanted.norm())


class Luma(LinearView):
    """Two images are equal when their luma is equal.

    Formula: `Y' = w_r R' + w_g G' + w_b B'` on gamma-encoded values; `(N, 3, H, W)` gives `(N, 1, H, W)`.
    Blind to both color directions at equal luma.

    Args:
        standard: 601 (ITU-R BT.601-7, 2.5.1: JPEG, Pillow's "L") or 709 (ITU-R BT.709-6, 3.2: HDTV).

    Raises:
        ValueError: for any other standard.
    """

    def __init__(self, standard: int = 601) -> None:
        weights = {601: LUMA_601, 709: LUMA_709}
        if standard not in weights:
            raise ValueError(f"luma standard {standard} is unknown: use 601 or 709")
        super().__init__([weights[standard]])


class Chroma(LinearView):
    """Two images are equal when their color differences are equal.

    Formula: `Cb = (B' - Y') / 1.772`, `Cr = (R' - Y') / 1.402` (ITU-R BT.601-7, 2.5.2), in [-0.5, 0.5];
    `(N, 3, H, W)` gives `(N, K, H, W)`. Blind to equal changes of red, green and blue.

    Args:
        parts: names of one or both, `cb` and `cr`.

    Raises:
        ValueError: for other parts.
    """

    def __init__(self, parts: Sequence[str] = ("cb", "cr")) -> None:
        directions = {"cb": CB_601, "cr": CR_601}
        if not parts or any(part not in directions for part in parts):
            raise ValueError(f"parts {list(parts)} of chroma: use cb, cr or both")
        super().__init__([directions[part] for part in parts])
