"""Metrics of every variant, whatever its loss: errors along color directions, PSNR, SSIM, color rank."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, Metric, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio

from losslens.losses.color import COLOR_DIRECTIONS, Direction
from losslens.losses.ssim import structural_similarity
from losslens.losses.views import LinearView

METRICS = ("loss", *COLOR_DIRECTIONS, "psnr", "ssim", "color_rank")  # names, in the order in which they are shown
SUBSPACE_METRICS = ("seen_error", "unseen_error", "seen_psnr")  # of variants with a linear view only


class DirectionError(MeanAbsoluteError):
    """Mean absolute error along one color direction, of float images `(N, 3, H, W)`."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.view = LinearView([direction])

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of reconstructions and originals."""
        errors = self.view(preds - target)
        super().update(errors, torch.zeros_like(errors))


class SubspaceError(MeanAbsoluteError):
    """Error of reconstructions within some dimensions of RGB.

    The mean over pixels of the length of the error's part in the subspace, divided by the root of the number of
    dimensions: for one channel its mean absolute error. Float images `(N, 3, H, W)`.

    Args:
        axes: orthonormal rows `(dimensions, 3)`.
    """

    axes: Tensor

    def __init__(self, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("axes", axes.float() / len(axes) ** 0.5, persistent=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of reconstructions and originals."""
        errors = (preds - target).flatten(2)
        lengths = (self.axes.to(errors) @ errors).square().sum(1).sqrt()
        super().update(lengths, torch.zeros_like(lengths))


class SubspacePSNR(PeakSignalNoiseRatio):
    """Peak signal-to-noise ratio within some dimensions of RGB, in dB for a range of 1: for one channel, its own PSNR.

    Args:
        axes: orthonormal rows `(dimensions, 3)`.
    """

    axes: Tensor

    def __init__(self, axes: Tensor) -> None:
        super().__init__(data_range=1.0)
        self.register_buffer("axes", axes.float(), persistent=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of reconstructions and originals."""
        super().update(*(self.axes.to(each) @ each.flatten(2) for each in (preds, target)))


class StructuralSimilarity(Metric):
    """Mean structural similarity of float images `(N, 3, H, W)`: 1 minus the loss `ssim`, averaged over images."""

    full_state_update = False
    count: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of reconstructions and originals."""
        self.count += len(preds)
        self.total += structural_similarity(preds, target.to(preds)) * len(preds)

    def compute(self) -> Tensor:
        """Return the mean over images."""
        return self.total / self.count


class ColorRank(Metric):
    """Number of RGB dimensions in which reconstructions' pixels spread: 1 is one line of colors, 3 the full space.

    The participation ratio `tr(C)^2 / tr(C^2)` of the 3x3 covariance `C` over all pixels; 0 if all pixels are equal.
    Source: Gao et al. 2017, doi:10.1101/214262.
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(3), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(3, 3), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of reconstructions `(N, 3, H, W)`; the originals do not matter."""
        # Around mid-gray and averaged per batch, so that float32 keeps small covariances apart from large means.
        pixels = preds.movedim(1, -1).reshape(-1, 3) - 0.5
        self.count += len(preds)
        self.total += pixels.mean(0) * len(preds)
        self.products += pixels.T @ pixels / len(pixels) * len(preds)

    def compute(self) -> Tensor:
        """Return the participation ratio, in [1, 3] or 0."""
        mean = self.total / self.count
        covariance = self.products / self.count - mean.outer(mean)
        squares = covariance.square().sum()
        return torch.where(squares > 1e-12, covariance.trace().square() / squares.clamp(min=1e-12), 0.0)


def reconstruction_metrics(view: LinearView | None = None) -> MetricCollection:
    """Make the metrics of reconstructions against originals, both float `(N, 3, H, W)`.

    Args:
        view: of the loss; None if it is not linear.

    Returns:
        `red green blue luma cb cr`: mean absolute error along each direction, Rec. 601, gamma-encoded;
        `psnr` in dB over all pixels, for a range of 1; `ssim`, mean over images, channels and windows; `color_rank`;
        if the view is linear, `seen_error` in the dimensions of RGB that it sees, and `unseen_error` in the others, if
        there are any, and `seen_psnr`.
    """
    return MetricCollection(
        {
            **{name: DirectionError(direction) for name, direction in COLOR_DIRECTIONS.items()},
            "psnr": PeakSignalNoiseRatio(data_range=1.0),
            "ssim": StructuralSimilarity(),
            "color_rank": ColorRank(),
            **({} if view is None else _subspace_errors(view)),
        },
        prefix="val/",
        compute_groups=False,
    )


def _subspace_errors(view: LinearView) -> dict[str, Metric]:
    axes = {"seen_error": view.seen_axes(), "unseen_error": view.unseen_axes()}
    errors: dict[str, Metric] = {name: SubspaceError(rows) for name, rows in axes.items() if len(rows)}
    return errors | {"seen_psnr": SubspacePSNR(view.seen_axes())}


def describe_colors(images: Tensor) -> dict[str, Any]:
    """Return how much colors vary in float images `(N, 3, H, W)`, to compare errors of reconstructions with.

    Returns:
        `spread`: for each color direction the mean absolute difference of a pixel from the mean of all;
        `color_rank`.
    """
    means = images.mean((0, 2, 3), keepdim=True).expand_as(images)
    spread = {}
    for name, direction in COLOR_DIRECTIONS.items():
        error = DirectionError(direction).to(images.device)
        spread[name] = error(means, images).item()
    rank = ColorRank().to(images.device)
    return {"spread": spread, "color_rank": rank(images, images).item()}
