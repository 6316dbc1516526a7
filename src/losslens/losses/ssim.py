"""Structural similarity as a loss. Not imported with the package: it needs torchmetrics, the others torch alone."""

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

PADDING = 5  # pixels that half a window of 11 reflects at the border


class SSIM(nn.Module):
    """Two images are equal when local means, contrasts and structures of each channel are equal.

    Formula: `1 - mean(SSIM)` with a Gaussian window of 11 pixels and sigma 1.5, K1 0.01 and K2 0.03, per channel of
    gamma-encoded RGB, as torchmetrics computes it (borders are reflected). 0 at equality,
    larger is worse, at most 2. Half precision is computed in float32.
    Source: Wang, Bovik, Sheikh and Simoncelli, 2004, doi:10.1109/TIP.2003.819861.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is 5 pixels or less.
        """
        if input.shape != target.shape:
            raise ValueError(
                f"input {tuple(input.shape)} and target {tuple(target.shape)} differ in shape: "
                "a loss compares images of one size"
            )
        if min(input.shape[-2:]) <= PADDING:
            raise ValueError(f"images of {input.shape[-2]}x{input.shape[-1]} are too small for SSIM: 6 pixels or more")
        precise = torch.promote_types(input.dtype, torch.float32)
        similarity = structural_similarity_index_measure(input.to(precise), target.to(precise), data_range=1.0)
        assert isinstance(similarity, Tensor)
        return (1 - similarity).to(input.dtype)
