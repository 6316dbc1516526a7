"""Distances of features that torch does not have. All are means over the batch and 0 at equality."""

import torch
from torch import Tensor, nn

from losslens.losses.loss import UnitRange
from losslens.losses.views import LEVEL, precise, unit


class RMSE(nn.Module):
    """Root of the mean squared difference of each image, then the mean over images. At equality the gradient is 0."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features of any shape `(N, ...)`; returns a scalar."""
        differences = (input - target).flatten(1)
        lengths: Tensor = torch.linalg.vector_norm(differences, dim=1)
        mean: Tensor = (lengths / differences.shape[1] ** 0.5).mean()
        return mean


class Charbonnier(nn.Module):
    """Mean of `sqrt(d^2 + epsilon^2) - epsilon`: L1 with a round tip.

    Source: Lai, Huang, Ahuja and Yang, 2017, arXiv:1704.03915; the subtraction makes it 0 at equality.

    Raises:
        ValueError: if epsilon is not above 0.
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if not epsilon > 0:
            raise ValueError(f"epsilon {epsilon} of charbonnier is not above 0")
        self.epsilon = epsilon

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features of any shape; returns a scalar."""
        squared = (input - target).square()
        # the same as the formula, without the difference of two nearly equal numbers
        return (squared / ((squared + self.epsilon**2).sqrt() + self.epsilon)).mean()


class LogCosh(nn.Module):
    """Mean of `log(cosh(d))`: half of the square for small differences, L1 for large ones."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features of any shape; returns a scalar."""
        size = (input - target).abs()
        small = torch.log1p(2 * torch.sinh(size.clamp(max=1) / 2).square())
        large = size + torch.log1p(torch.expm1(-2 * size) / 2)
        return torch.where(size < 1, small, large).mean()


class BCE(UnitRange):
    """Binary cross-entropy minus that of equal images: the mean Kullback-Leibler divergence of values as probabilities.

    Formula: `t log(t / p) + (1 - t) log((1 - t) / (1 - p))` of `p = e + (1 - 2 e) input` and `t = e + (1 - 2 e) target`
    with `e = 1/510`, half a level of 8 bits, which bounds the gradient in [0, 1]; an input outside goes on from 0 or 1
    along the tangent, plus `o^2 / (2 e)` for the o by which p is outside of [e, 1 - e], which leads it back. Half
    precision is computed in float32. Not symmetric.
    """

    name = "bce"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features of any shape, `target` in [0, 1]; returns a scalar."""
        edge = LEVEL / 2
        given, wanted = (edge + (1 - 2 * edge) * precise(each) for each in (input, target))
        inside, wanted = given.clamp(edge, 1 - edge), wanted.clamp(edge, 1 - edge)
        difference = inside - wanted
        divergence = -wanted * torch.log1p(difference / wanted) - (1 - wanted) * torch.log1p(-difference / (1 - wanted))
        slope = difference / (inside * (1 - inside))
        over = given - inside
        # near equality rounding may leave something below 0
        return (divergence.clamp(min=0) + over * slope + over.square() / (2 * edge)).mean()


class Cosine(nn.Module):
    """One minus the cosine of the angle between feature vectors, the mean over images and places.

    Formula: half of the squared distance of `x / max(|x|, 1/255)`, along the channels (the second dimension); equal
    black pixels are equal. Blind to the length of the vectors.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features `(N, C, ...)`; returns a scalar."""
        return 0.5 * (unit(input) - unit(target)).square().sum(1).mean()


class Quantile(nn.Module):
    """Mean of `q d` where `d = target - input` is positive and of `(q - 1) d` elsewhere (the pinball loss).

    At the minimum a share q of targets lies below the reconstruction: 0.5 is half of L1. Not symmetric.
    Source: Koenker and Bassett, 1978, doi:10.2307/1913643.

    Raises:
        ValueError: if q is not between 0 and 1.
    """

    def __init__(self, q: float = 0.5) -> None:
        super().__init__()
        if not 0 < q < 1:
            raise ValueError(f"quantile {q} is not between 0 and 1")
        self.q = q

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features of any shape; returns a scalar."""
        difference = target - input
        return torch.maximum(self.q * difference, (self.q - 1) * difference).mean()


class Gram(nn.Module):
    """Mean squared difference of Gram matrices: which channels are large together, wherever that is.

    Formula: `G = X X^T / (C P)` of features X `(C, P)` with P places. Blind to where things are.
    Source: Gatys, Ecker and Bethge, 2016, doi:10.1109/CVPR.2016.265 (normalized as by Johnson et al., 2016,
    arXiv:1603.08155).
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features `(N, C, ...)`; returns a scalar.

        Raises:
            ValueError: if they have no places.
        """
        return (_gram(input) - _gram(target)).square().mean()


def _gram(features: Tensor) -> Tensor:
    values = _places(features, "gram")
    return values @ values.transpose(1, 2) / values[0].numel()


class SlicedWasserstein(nn.Module):
    """Distance of the distributions of feature vectors, along random directions.

    Formula: features projected onto random unit vectors of the channels, sorted over the places, the mean absolute
    difference (sliced 1-Wasserstein distance, whose directions are drawn once). Blind to where things are.
    Source: Bonneel, Rabin, Peyre and Pfister, 2015, doi:10.1007/s10851-014-0506-3.

    Raises:
        ValueError: if there are fewer than 1.
    """

    def __init__(self, directions: int = 32, seed: int = 0) -> None:
        super().__init__()
        if directions < 1:
            raise ValueError(f"directions {directions} of sliced_wasserstein: use 1 or more")
        self.directions = directions
        self.seed = seed
        self.drawn: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare features `(N, C, ...)`; returns a scalar.

        Raises:
            ValueError: if they have no places.
        """
        first, second = _places(input, "sliced_wasserstein"), _places(target, "sliced_wasserstein")
        axes = self._axes(first)
        return ((axes @ first).sort(dim=-1).values - (axes @ second).sort(dim=-1).values).abs().mean()

    def _axes(self, values: Tensor) -> Tensor:
        """Return the directions for this number of channels, drawn once."""
        key = (values.shape[1], values.dtype, values.device)
        if key not in self.drawn:
            with torch.inference_mode(False):  # training cannot use inference tensors
                generator = torch.Generator().manual_seed(self.seed)
                drawn = torch.randn(self.directions, values.shape[1], generator=generator, dtype=torch.float64)
                unit_length = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
                self.drawn[key] = unit_length.to(values.device, values.dtype)
        return self.drawn[key]


def _places(features: Tensor, name: str) -> Tensor:
    """Return features as `(N, C, P)`."""
    if features.ndim < 3:
        raise ValueError(
            f"distance {name} compares channels over places, and this view gives {tuple(features.shape)}: "
            "use another distance, or a view such as rgb or edges"
        )
    return features.flatten(2)
