"""Losses of trained networks with channel weights fitted to human judgments. Not imported with the package."""

from pathlib import Path
from typing import Any

import torch
import torchmetrics.functional.image
from torch import Tensor, nn
from torch.nn import functional as F

from losslens.losses.loss import check_pair
from losslens.losses.networks import NETWORKS, Network, run
from losslens.losses.views import check_images, precise

WEIGHTS = Path(torchmetrics.functional.image.__file__).parent  # folder of the channel weights
HEADS = {"alexnet": "alex", "vgg16": "vgg", "squeezenet": "squeeze"}  # LPIPS's name of each network's file
EPSILON = 1e-8  # as in LPIPS, added to squared lengths
DISTS_CONSTANT = 1e-6


class LPIPS(nn.Module):
    """Two images are equal when a trained network's answers are, weighted to match human judgments.

    Formula: the sum over layers of the mean over places of the squared differences of answers of unit length, weighted
    by channel; 0 at equality. Half precision is computed in float32. The weights of the channels are those of version
    0.1, which come with torchmetrics.
    Source: Zhang, Isola, Efros, Shechtman and Wang, 2018, arXiv:1801.03924.

    Args:
        network: `alexnet`, `vgg16` or `squeezenet`.
        weights: as for `Network`.

    Raises:
        ValueError: as of `Network`.
    """

    def __init__(self, network: str = "alexnet", weights: str | None = None) -> None:
        super().__init__()
        if network not in HEADS:
            raise ValueError(f"network {network} has no weights of LPIPS: use {', '.join(HEADS)}")
        # ImageNet's mean and deviation on a scale from -1 to 1, rounded as in the source.
        mean, std = [(1 + each) / 2 for each in (-0.030, -0.088, -0.188)], [each / 2 for each in (0.458, 0.448, 0.450)]
        self.network = Network(network, weights, mean, std)
        heads = torch.load(WEIGHTS / "lpips_models" / f"{HEADS[network]}.pth", map_location="cpu", weights_only=True)
        self.count = len(self.network.layers)
        for index in range(self.count):
            self.register_buffer(f"head{index}", heads[f"lin{index}.model.1.weight"], persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or are too small.
        """
        check_pair(input, target, "lpips")
        total: Any = 0
        for index, (first, second) in enumerate(zip(self.network(input), self.network(target), strict=True)):
            head: Tensor = getattr(self, f"head{index}")
            squared = (_unit(first) - _unit(second)).square()
            total = total + (head.to(squared) * squared).sum(1).mean((1, 2))
        result: Tensor = total.mean().to(input.dtype)
        return result


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + EPSILON).sqrt()


class DISTS(nn.Module):
    """Two images are equal when means (texture) and covariances (structure) of VGG16's answers are equal.

    Formula: `1 - sum(alpha l + beta s)` over the channels of the image and of five layers of VGG16 with L2 pooling, l
    of means and s of variances and covariance over all places, with the weights of the source, which come with
    torchmetrics.
    0 at equality. Half precision is computed in float32.
    Source: Ding, Ma, Wang and Simoncelli, 2020, arXiv:2004.07728.

    Args:
        weights: of VGG16, as for `Network`.

    Raises:
        ValueError: as of `Network`.
    """

    alpha: Tensor
    beta: Tensor
    window: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.network = Network("vgg16", weights)
        first, *others = self.network.layers
        self.layers = nn.ModuleList([first, *(nn.Sequential(*list(each.children())[1:]) for each in others)])
        trained = torch.load(WEIGHTS / "dists_models" / "weights.pt", map_location="cpu", weights_only=True)
        total = trained["alpha"].sum() + trained["beta"].sum()
        self.register_buffer("alpha", trained["alpha"].detach().flatten() / total, persistent=False)
        self.register_buffer("beta", trained["beta"].detach().flatten() / total, persistent=False)
        line = torch.hann_window(5, periodic=False)[1:-1]
        self.register_buffer("window", torch.outer(line, line) / line.sum() ** 2, persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or are too small.
        """
        check_pair(input, target, "dists", NETWORKS["vgg16"].smallest)
        check_images(input)
        lost_means, lost_structures = [], []
        for first, second in zip(self._answers(precise(input)), self._answers(precise(target)), strict=True):
            means = first.mean((2, 3)), second.mean((2, 3))
            centered = first - means[0][..., None, None], second - means[1][..., None, None]
            # 1 - (2 a b + c) / (a^2 + b^2 + c), without the difference of nearly equal numbers
            lost_means.append((means[0] - means[1]).square() / (means[0].square() + means[1].square() + DISTS_CONSTANT))
            variances = sum(each.square().mean((2, 3)) for each in centered)
            lost_structures.append((centered[0] - centered[1]).square().mean((2, 3)) / (variances + DISTS_CONSTANT))
        lost = torch.cat(lost_means, 1) @ self.alpha.to(first) + torch.cat(lost_structures, 1) @ self.beta.to(first)
        return lost.mean().to(input.dtype)

    def _answers(self, images: Tensor) -> list[Tensor]:
        features, answers = self.network.normalize(images), [images]
        for index, layer in enumerate(self.layers):
            features = run(layer, self._pool(features) if index else features)
            answers.append(features)
        return answers

    def _pool(self, features: Tensor) -> Tensor:
        """Halve the size by L2 pooling, the root of the local mean of squares."""
        window = self.window.to(features).expand(features.shape[1], 1, 3, 3)
        return (F.conv2d(features.square(), window, stride=2, padding=1, groups=features.shape[1]) + 1e-12).sqrt()
