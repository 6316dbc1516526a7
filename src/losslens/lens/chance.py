"""Chance: differences between variants that differ only in their seed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from losslens.losses import LinearView

RESAMPLES = 1000
LEVEL = 0.9  # coverage of intervals
FEWEST = 3  # seeds needed for intervals
AT_ONCE = 16  # images


@dataclass(frozen=True)
class Spread:
    """Standard deviation over seeds, per dimension of RGB, and an interval of it.

    Args:
        value: root mean square over images, pixels and the dimensions of the part.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Chance:
    """Spread over seeds for one loss; `seen`, `free` and `ratio` are None where its view has no such dimensions.

    Args:
        seen: in the dimensions of RGB that the loss sees.
        free: in the others.
        ratio: `free` over `seen`.
    """

    channels: dict[str, Spread]
    seen: Spread | None
    free: Spread | None
    ratio: Spread | None


def chance(outputs: Tensor, view: LinearView | None, *, seed: int = 0) -> Chance:
    """Split the variance of reconstructions over seeds into what the loss sees and what it leaves free.

    Intervals hold 90% of 1,000 bootstrap resamples of seeds and images together: few seeds give wide intervals however
    many images there are. Two seeds give none: from 0 to infinity.

    Args:
        outputs: reconstructions `(S, N, 3, H, W)` of N images by S variants, at least 2; not clamped.
        view: of the loss; None if it is not linear.

    Raises:
        ValueError: if there are fewer than two seeds.
    """
    if len(outputs) < 2:
        raise ValueError(f"{len(outputs)} variant: chance shows between two seeds or more")
    channels = torch.eye(3, dtype=torch.float64)
    parts = {"red": channels[:1], "green": channels[1:2], "blue": channels[2:]}
    if view is not None:
        parts |= {name: axes for name, axes in (("seen", view.seen_axes()), ("free", view.unseen_axes())) if len(axes)}
    distances = {name: _pairwise(outputs, axes) for name, axes in parts.items()}
    drawn = _resamples(len(outputs), outputs.shape[1], seed)
    variances = {name: _variances(each, drawn) for name, each in distances.items()}
    few = len(outputs) < FEWEST
    spreads = {name: _spread(each, few) for name, each in variances.items()}
    both = "seen" in variances and "free" in variances
    return Chance(
        channels={name: spreads[name] for name in ("red", "green", "blue")},
        seen=spreads.get("seen"),
        free=spreads.get("free"),
        ratio=_spread(variances["free"] / variances["seen"].clamp(min=1e-30), few) if both else None,
    )


def spread_maps(outputs: Tensor, axes: Tensor) -> Tensor:
    """Map where seeds differ: the standard deviation over seeds at every pixel, per dimension of a part of RGB.

    Args:
        outputs: reconstructions `(S, N, 3, H, W)`.
        axes: orthonormal rows `(dimensions, 3)`.

    Returns:
        `(N, 1, H, W)`.
    """
    parts = torch.einsum("kc,snchw->snkhw", axes.to(outputs), outputs)
    return parts.var(0).mean(1, keepdim=True).sqrt()


def _pairwise(outputs: Tensor, axes: Tensor) -> Tensor:
    """Return mean squared differences between variants `(N, S, S)`, per pixel and dimension of a part of RGB."""
    found = []
    for batch in outputs.split(AT_ONCE, dim=1):
        parts = torch.einsum("kc,snchw->nskhw", axes.to(batch), batch).flatten(2).double()
        found.append(torch.cdist(parts, parts, compute_mode="donot_use_mm_for_euclid_dist").square() / parts.shape[-1])
    return torch.cat(found)


def _resamples(num_seeds: int, num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the draws of each seed `(1 + RESAMPLES, S)` and image `(1 + RESAMPLES, N)`; the first row is all 1."""
    generator = torch.Generator().manual_seed(seed)
    counts = []
    for size, of_seeds in ((num_seeds, True), (num_images, False)):
        drawn = torch.randint(size, (RESAMPLES, size), generator=generator)
        while of_seeds and (alike := (drawn == drawn[:, :1]).all(1)).any():  # one seed alone has no variance: redrawn
            drawn[alike] = torch.randint(size, (int(alike.sum()), size), generator=generator)
        times = torch.zeros(RESAMPLES, size, dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        counts.append(torch.cat([torch.ones(1, size, dtype=torch.float64), times]))
    return counts[0], counts[1]


def _variances(distances: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
    """Return the variance over seeds of every resample: half the mean squared difference of two seeds."""
    seeds, images = drawn
    count = seeds.shape[1]
    # Image by image: all at once would hold an S x S table for every resample.
    of_images = torch.stack([((seeds @ each) * seeds).sum(1) for each in distances], dim=1)
    total = (images * of_images).mean(1)
    variances = total / (2 * count * (count - 1))
    # Seeds drawn twice do not differ from themselves; resamples of one seed alone were redrawn.
    variances[1:] *= count / (count - 1) * (1 - count ** (1 - count))
    return variances


def _spread(variances: Tensor, few: bool) -> Spread:
    deviations = variances.sqrt()
    if few:
        return Spread(float(deviations[0]), 0.0, float("inf"))
    tail = (1 - LEVEL) / 2
    low, high = deviations[1:].quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Spread(float(deviations[0]), low, high)
