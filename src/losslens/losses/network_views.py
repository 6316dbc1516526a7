"""Features of convolutional networks as views."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losslens.losses.views import check_images, in_one_row


class RandomFeatures(nn.Module):
    """Two images are equal when a random convolutional network, which is never trained, answers equally.

    Formula: images minus 0.5; per layer a 3x3 convolution of stride 2 with normal weights of variance 2 / fan-in, then
    ReLU. The answers of all layers in one row, scaled so that with L1 every layer weighs the same. `(N, 3, H, W)`
    gives `(N, F)`.
    Source: Amid, Anil, Kotlowski and Warmuth, 2022, arXiv:2202.06438 (what random networks see).

    Args:
        widths: channels of each layer.

    Raises:
        ValueError: if there is no layer.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), seed: int = 0) -> None:
        super().__init__()
        if not widths:
            raise ValueError("random features of no layer: give widths")
        generator = torch.Generator().manual_seed(seed)
        self.depth = len(widths)
        for index, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            weights = torch.randn(after, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
            self.register_buffer(f"weights{index}", weights, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the answers of all layers in one row, `(N, F)`."""
        check_images(images)
        features, answers = images - 0.5, []
        for index in range(self.depth):
            weights: Tensor = getattr(self, f"weights{index}")
            features = F.conv2d(features, weights.to(features), stride=2, padding=1).relu()
            answers.append(features)
        return in_one_row(answers)
