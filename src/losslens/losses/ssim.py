"""Structural similarity, as a loss and as all variants are measured."""

import torch
from torch import Tensor

from losslens.losses.loss import UnitRange, check_pair
from losslens.losses.views import precise

WINDOW, SIGMA = 11, 1.5  # pixels; images smaller than that get the largest odd window that fits
CONSTANTS = 0.01**2, 0.03**2  # K1 and K2 for a range of 1
CENTER = 0.5  # subtracted before squares are, so that float32 keeps small variances apart from large means
SMALLEST = 6  # pixels of a side, for a loss


class SSIM(UnitRange):
    """Two images are equal when local means, contrasts and structures of each channel are equal.

    Formula: `1 - mean(SSIM)`, as `structural_similarity` below. 0 at equality, larger is worse, at most 2. Half
    precision is computed in float32.
    Source: Wang, Bovik, Sheikh and Simoncelli, 2004, doi:10.1109/TIP.2003.819861.
    """

    name = "ssim"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, C, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is 5 pixels or less.
        """
        check_pair(input, target, "ssim", SMALLEST)
        return (1 - structural_similarity(precise(input), precise(target))).to(input.dtype)


def structural_similarity(input: Tensor, target: Tensor) -> Tensor:
    """Return the mean of SSIM over images, channels and all windows that fit into the image, a scalar.

    Gaussian window of 11 pixels and sigma 1.5, K1 0.01 and K2 0.03, population statistics, values as they are, no
    padding: as scikit-image's with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`. An axis of fewer
    than 11 pixels gets the largest odd window that fits. Matrices take the windows' means: on a CPU a third of the time
    of a convolution, and deterministic everywhere.

    Args:
        input: float `(N, C, H, W)` in [0, 1].
        target: of that shape.
    """
    down, across = (_window_means(side, input) for side in input.shape[-2:])
    first, second = input - CENTER, target - CENTER
    x, y, squares, products = (
        down @ each @ across.T for each in (first, second, first.square() + second.square(), first * second)
    )
    variances, covariances = squares - (x.square() + y.square()), products - x * y
    x, y = x + CENTER, y + CENTER
    c1, c2 = CONSTANTS
    luminance = (2 * x * y + c1) / (x.square() + y.square() + c1)
    structure = (2 * covariances + c2) / (variances + c2)
    return (luminance * structure).mean()


def _window_means(side: int, like: Tensor) -> Tensor:
    """Return the matrix `(side - window + 1, side)` that takes the weighted mean of every window along one axis."""
    window = min(WINDOW, side - 1 + side % 2)
    offsets = torch.arange(window, device=like.device, dtype=like.dtype) - window // 2
    weights = torch.softmax(-(offsets.square()) / (2 * SIGMA**2), dim=0)
    places = torch.arange(side - window + 1, device=like.device)
    means = like.new_zeros(len(places), side)
    return means.scatter_(
        1, places[:, None] + torch.arange(window, device=like.device), weights.expand(len(places), -1)
    )
