"""Principal distortions: two changes that spread a whole list of losses along one axis."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losslens.lens.eigendistortions import hessian_product, jacobian_product
from losslens.lens.subject import prepare
from losslens.losses import Loss

REGULARIZATION = 1e-4  # in units of the mean eigenvalue; a blind loss has no logarithm
RATE = 0.3  # length of the first step on the unit sphere
STARTS = 3


@dataclass(frozen=True)
class PrincipalDistortions:
    """Two changes of unit length, and where they put every loss.

    Args:
        first: `(1, 3, H, W)`, Euclidean length 1.
        second: `(1, 3, H, W)`, Euclidean length 1.
        places: of each loss: the log ratio of its sensitivities to the two, regularized.
        regularization: what was added to each matrix, in units of its mean eigenvalue.
    """

    first: Tensor
    second: Tensor
    places: dict[str, float]
    regularization: float


def principal_distortions(
    losses: Mapping[str, nn.Module],
    image: Tensor,
    *,
    regularization: float = REGULARIZATION,
    steps: int = 200,
    seed: int = 0,
) -> PrincipalDistortions:
    """Find the pair of changes that a set of losses disagrees on most (Feather et al., ICLR 2025).

    Maximizes over unit vectors a and b the variance over losses of `log(a'Fa) - log(b'Fb)`. F is `J^T J` of a loss's
    view, or the Hessian of a loss that has none, over its mean eigenvalue, plus `regularization` times the identity:
    a blind loss has a singular F, whose log is minus infinity.

    Args:
        losses: by name, at least two.
        image: float `(3, H, W)` in [0, 1]; computed in its precision.
        regularization: relative to the mean eigenvalue.
        steps: of gradient ascent from each of three random starts; the best counts.

    Raises:
        ValueError: for fewer than two losses.
    """
    if len(losses) < 2:
        raise ValueError(f"principal distortions compare losses, got {len(losses)}: give two or more")
    products, scales = [], []
    for loss in losses.values():
        ready, target = prepare(loss, image, image.dtype)
        product = jacobian_product(ready.view, target) if isinstance(ready, Loss) else hessian_product(ready, target)
        products.append(product)
    generator = torch.Generator().manual_seed(seed)

    def unit() -> Tensor:
        vector = torch.randn(target.shape, generator=generator, dtype=torch.float64).to(target)
        length: Tensor = vector.norm()
        return vector / length

    probes = [unit() for _ in range(4)]
    for product in products:  # a'Fa of random unit vectors is the mean eigenvalue on average
        mean = sum(float((probe * product(probe)).sum()) for probe in probes) / len(probes)
        scales.append(max(mean, 1e-30))

    def logs(vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return log sensitivities `(losses,)` and their gradients `(losses, size)`."""
        values, gradients = [], []
        for product, scale in zip(products, scales, strict=True):
            image = product(vector).detach() / scale + regularization * vector
            value = (vector * image).sum().clamp(min=torch.finfo(vector.dtype).tiny)
            values.append(value.log())
            gradients.append((2 * image / value).flatten())
        return torch.stack(values), torch.stack(gradients)

    best: tuple[float, Tensor, Tensor, Tensor] | None = None
    for _ in range(STARTS):
        pair = [unit(), unit()]
        for step in range(steps):
            (first, first_slope), (second, second_slope) = (logs(vector) for vector in pair)
            places = first - second
            weights = 2 * (places - places.mean()) / len(places)  # gradient of the variance
            rate = RATE * 0.01 ** (step / steps)
            slopes = (weights @ first_slope, -weights @ second_slope)
            pair = [_step(vector, slope.view(vector.shape), rate) for vector, slope in zip(pair, slopes, strict=True)]
        places = logs(pair[0])[0] - logs(pair[1])[0]
        variance = float(places.var(unbiased=False))
        if best is None or variance > best[0]:
            best = (variance, pair[0], pair[1], places)
    assert best is not None
    _, first, second, places = best
    return PrincipalDistortions(
        first, second, dict(zip(losses, (places - places.mean()).tolist(), strict=True)), regularization
    )


def _step(vector: Tensor, slope: Tensor, rate: float) -> Tensor:
    """Take a step of ascent on the unit sphere."""
    slope = slope - (slope * vector).sum() * vector
    size = slope.norm()
    if not size > 0:
        return vector
    moved: Tensor = vector + rate * slope / size
    length: Tensor = moved.norm()
    return moved / length
