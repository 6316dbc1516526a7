"""Structural similarity as a loss. Needs torchmetrics; not imported with the package."""

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from losslens.losses.loss import UnitRange, check_pair
from losslens.losses.views import precise

PADDING = 5  # pixels reflected at the border: half a window of 11


class SSIM(UnitRange):
    """Two images are equal when local means, contrasts and structures of each channel are equal.

    Formula: `1 - mean(SSIM)` with a Gaussian window of 11 pixels and sigma 1.5, K1 0.01 and K2 0.03, per channel of
    gamma-encoded RGB, as torchmetrics computes it (borders are reflected). 0 at equality,
    larger is worse, at most 2. Half precision is computed in float32.
    Source: Wang, Bovik, Sheikh and Simoncelli, 2004, doi:10.1109/TIP.2003.819861.
    """

    name = "ssim"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is 5 pixels or less.
        """
        check_pair(input, target, "ssim", PADDING + 1)
        similarity = structural_similarity_index_measure(precise(input), precise(target), data_range=1.0)
        assert isinstance(similarity, Tensor)
        return (1 - similarity).to(input.dtype)
