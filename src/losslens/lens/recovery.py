"""Recovery from noise: descent of a loss alone, without a network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losslens.lens.subject import prepare
from losslens.losses.loss import linear_view

FIRST_RATE, LAST_RATE = 0.05, 1e-4  # RMS of a step, in values of a pixel


@dataclass(frozen=True)
class Recovery:
    """The result of descending a loss from noise.

    Args:
        start: noise `(1, 3, H, W)` in [0, 1].
        image: the result; it may leave [0, 1].
        losses: at every step, and at the end.
        error: mean absolute difference from the original over RGB.
        seen_error: the same of what a linear view sees, per dimension of RGB; None for other losses, or where it sees
            all.
        unseen_change: mean absolute change of the unseen part since the start: 0, since descent never touches it. None
            where `seen_error` is.
    """

    start: Tensor
    image: Tensor
    losses: list[float]
    error: float
    seen_error: float | None
    unseen_change: float | None


def recover(loss: nn.Module, image: Tensor, *, steps: int = 300, seed: int = 0) -> Recovery:
    """Minimize a loss alone, from noise, by plain gradient descent on pixels.

    Every step is the gradient scaled to an RMS that falls geometrically, so that the scale of a loss does not matter.
    Steps stay in the span of gradients (Adam's would not: its steps drift along gray), and pixels are not squashed:
    directions that a loss does not see keep the noise.

    Args:
        loss: any differentiable module of `(input, target)` that returns a scalar.
        image: float `(3, H, W)` in [0, 1]; computed in its precision.

    Raises:
        ValueError: as `prepare`.
    """
    ready, target = prepare(loss, image, image.dtype)
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(target.shape, generator=generator, dtype=torch.float64).to(target)
    input = start.clone()
    losses = []
    for step in range(steps):
        input.requires_grad_()
        value = ready(input, target)
        losses.append(float(value.detach()))
        (gradient,) = torch.autograd.grad(value, input)
        size = gradient.square().mean().sqrt()
        input = input.detach()
        if not size.isfinite() or size == 0:
            break
        input = input - FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / steps) / size * gradient
    with torch.no_grad():
        losses.append(float(ready(input, target)))
    view = linear_view(loss)
    seen_error = unseen_change = None
    if view is not None and len(view.unseen_axes()):
        seen_error = _mean_length(view.seen_axes(), input - target)
        unseen_change = _mean_length(view.unseen_axes(), input - start)
    return Recovery(start, input, losses, float((input - target).abs().mean()), seen_error, unseen_change)


def _mean_length(axes: Tensor, difference: Tensor) -> float:
    projected = axes.to(difference) @ difference.flatten(2)
    return float(projected.norm(dim=1).mean() / len(axes) ** 0.5)
