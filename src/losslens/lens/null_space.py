"""The null space of a linear view: the colors inside [0, 1] that it cannot tell from a given one, exactly."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from losslens.losses import LinearView

INSIDE = 1e-9  # tolerance of [0, 1]
SINGULAR = 1e-9


@dataclass(frozen=True)
class EqualColors:
    """The colors that a view cannot tell from one gray.

    Args:
        gray: R = G = B of that gray, in [0, 1].
        low: float64 `(3,)`, the least red, green and blue among these colors.
        high: float64 `(3,)`, the most.
        corners: float64 `(n, 3)`, the corners of the convex set of these colors, each once, in no order.
    """

    gray: float
    low: Tensor
    high: Tensor
    corners: Tensor


def equal_corners(axes: Tensor, colors: Tensor) -> Tensor:
    """Find the corners of the set of colors inside [0, 1]^3 that have the same view as each given color.

    The set is the part of a point, line, plane or all of RGB inside the cube. At a corner, as many channels are 0 or
    1 as the view has free dimensions; the others follow: 12 candidates for a view of rank 1, 6 for 2, 1 for 3.

    Args:
        axes: float64 `(rank, 3)`, orthonormal, what the view sees (`LinearView.seen_axes`).
        colors: float64 `(P, 3)` in [0, 1].

    Returns:
        Float64 `(candidates, P, 3)`; NaN where a candidate lies outside.
    """
    rank = len(axes)
    seen = colors @ axes.T
    candidates = []
    for solved in itertools.combinations(range(3), rank):
        fixed = [channel for channel in range(3) if channel not in solved]
        matrix = axes[:, list(solved)]
        if rank and torch.linalg.det(matrix).abs() < SINGULAR:
            continue
        for bounds in itertools.product((0.0, 1.0), repeat=3 - rank):
            corner = torch.empty_like(colors)
            corner[:, fixed] = colors.new_tensor(bounds)
            if rank:
                rest = seen - corner[:, fixed] @ axes[:, fixed].T
                corner[:, list(solved)] = torch.linalg.solve(matrix, rest.T).T
            outside = ((corner < -INSIDE) | (corner > 1 + INSIDE)).any(1)
            corner[outside] = torch.nan
            candidates.append(corner.clamp(0, 1))
    return torch.stack(candidates)


def null_space(view: LinearView, grays: int = 9) -> list[EqualColors]:
    """Find the colors that a view cannot tell from each of some grays.

    Args:
        view: of pixels.
        grays: number of grays, evenly spaced in [0, 1] without its ends: views with positive weights confuse no other
            color with black or white.
    """
    levels = torch.linspace(0, 1, grays + 2, dtype=torch.float64)[1:-1]
    candidates = equal_corners(view.seen_axes(), levels[:, None].expand(-1, 3).contiguous())
    rooms = []
    for level, corners in zip(levels, candidates.unbind(1), strict=True):
        found = corners[~corners.isnan().any(1)]
        found = (found / INSIDE / 10).round().unique(dim=0) * INSIDE * 10  # a corner is met from several edges
        rooms.append(EqualColors(float(level), found.amin(0), found.amax(0), found))
    return rooms


def furthest_metamer(view: LinearView, image: Tensor) -> Tensor:
    """Find the image inside [0, 1] that is furthest from the given one among all that have the same view. Exact.

    The mean absolute difference over RGB is convex, so that its largest value on the set of equal colors is taken at
    a corner of that set, pixel by pixel.

    Args:
        image: float `(N, 3, H, W)` in [0, 1].

    Returns:
        Of the shape and precision of the image.
    """
    colors = image.movedim(1, -1).reshape(-1, 3).double()
    candidates = torch.cat([colors[None], equal_corners(view.seen_axes(), colors)])
    distances = (candidates - colors).abs().sum(-1).nan_to_num(-1)
    best = candidates[distances.argmax(0), torch.arange(len(colors))]
    return best.reshape(len(image), *image.shape[2:], 3).movedim(-1, 1).to(image)
