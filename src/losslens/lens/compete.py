"""One loss against another: the extremes of one over images for which the other is equal."""

from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from losslens.lens.changes import NOISE, RMS, change_bank
from losslens.lens.responses import WEAK
from losslens.lens.subject import excess_loss, prepare
from losslens.losses import LinearView
from losslens.losses.loss import linear_view

FOOLED = 1e-2  # share of the other loss's value for noise under which it counts as zero
FIRST_RATE, LAST_RATE = 0.05, 1e-4  # RMS of a step, in values of a pixel
BOOST = 10.0  # size of changes added to noise, relative to the noise
ROOT = 1e-4  # relative error of the scale that brings the held loss to its level
CONSTRAINT = 1e-3  # relative error of the loss that is held
LARGEST_SCALE = 1e3


@dataclass(frozen=True)
class Competition:
    """Extremes of one loss while another is held (maximum differentiation: Wang and Simoncelli, 2008).

    Args:
        held: value of the held loss: that of white noise.
        start: value of the other for that noise.
        low: least value of the other found; at most `start`.
        high: largest value of the other found.
        low_image: `(1, 3, H, W)`, inside [0, 1].
        high_image: `(1, 3, H, W)`, inside [0, 1].
        constraint_error: the larger relative error of the held loss at the two images.
        zero_possible: whether the other can be 0, from algebra; None unless both views are linear.
        unbounded: whether only [0, 1] bounds the other, from algebra; None unless both views are linear.
    """

    held: float
    start: float
    low: float
    high: float
    low_image: Tensor
    high_image: Tensor
    constraint_error: float
    zero_possible: bool | None
    unbounded: bool | None

    @property
    def fooled(self) -> bool:
        """Whether an image was found that the held loss notices and the other takes for equal."""
        return self.low < FOOLED * self.start


def compete(
    held: nn.Module, other: nn.Module, image: Tensor, *, rms: float = RMS, steps: int = 80, seed: int = 0
) -> Competition:
    """Hold one loss at its value for white noise, and make another as small and as large as possible.

    Projected gradient, from the most extreme of the bank's changes, each brought to the level: a step along the
    other's gradient without its part along the held loss's, then back to the level by a search along the line from
    the original. An image that was found proves a blind spot; one that was not found proves nothing, since the
    search may end at a local extreme.

    Args:
        held: any differentiable module of `(input, target)` that returns a scalar.
        other: as `held`.
        image: float `(3, H, W)` in [0, 1]; computed in its precision.
        steps: for each of the two extremes.

    Raises:
        ValueError: as `prepare`, and if the held loss does not respond to noise.
    """
    fixed, target = prepare(held, image, image.dtype)
    free, _ = prepare(other, image, image.dtype)
    bank, _ = change_bank(target, rms, seed)
    noisy = bank[NOISE]
    level, start = excess_loss(fixed, noisy, target), excess_loss(free, noisy, target)
    if not level > 0:
        raise ValueError(f"loss {type(held).__name__} is {level} for white noise: it cannot be held at that")
    starts = [noisy]
    for changed in bank.values():  # alone, or added to noise where the held loss hardly responds
        if excess_loss(fixed, changed, target) < WEAK * level:
            changed = (noisy + BOOST * (changed - target)).clamp(0, 1)
        on_level = _to_level(fixed, target, changed, level)
        starts += [] if on_level is None else [on_level]
    values = [excess_loss(free, each, target) for each in starts]
    extremes = [starts[values.index(extreme(values))] for extreme in (min, max)]
    found = [
        _push(fixed, free, target, begin, level, sign, steps) for begin, sign in zip(extremes, (-1, 1), strict=True)
    ]
    errors = [abs(excess_loss(fixed, each, target) / level - 1) for each in found]
    zero_possible, unbounded = known_pattern(linear_view(held), linear_view(other))
    low, high = (excess_loss(free, each, target) for each in found)
    return Competition(level, start, low, high, found[0], found[1], max(errors), zero_possible, unbounded)


def known_pattern(held: LinearView | None, other: LinearView | None) -> tuple[bool | None, bool | None]:
    """Return whether the other can be 0 while the held one is not, and whether only [0, 1] bounds the other.

    The first holds if the held view sees a direction that the other does not, the second if the other sees one that
    the held does not. None for both unless both views are linear.
    """
    if held is None or other is None:
        return None, None
    together = LinearView(torch.cat([held.weights, other.weights]).tolist())
    rank = len(together.seen_axes())
    return rank > len(other.seen_axes()), rank > len(held.seen_axes())


def _push(
    fixed: nn.Module, free: nn.Module, target: Tensor, start: Tensor, level: float, sign: int, steps: int
) -> Tensor:
    """Return the image with the most extreme value of the free loss found on the level."""
    input, best, best_value = start, start, excess_loss(free, start, target)
    for step in range(steps):
        along, across = (_gradient(loss, input, target) for loss in (free, fixed))
        if along is None or across is None:
            break
        direction = along - (along * across).sum() / across.square().sum().clamp(min=1e-30) * across
        size = direction.square().mean().sqrt()
        if not size > 0:
            break
        rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / steps)
        moved = _to_level(fixed, target, (input + sign * rate / size * direction).clamp(0, 1), level)
        if moved is None:
            break
        input = moved
        value = excess_loss(free, input, target)
        if sign * value > sign * best_value:
            best, best_value = input, value
    return best


def _gradient(loss: nn.Module, input: Tensor, target: Tensor) -> Tensor | None:
    input = input.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(input, target), input)
    return gradient if gradient.isfinite().all() else None


def _to_level(loss: nn.Module, target: Tensor, image: Tensor, level: float) -> Tensor | None:
    """Scale the difference from the target, inside [0, 1], until the loss is at the level; None if it never is."""
    difference = image - target

    def scaled(scale: float) -> Tensor:
        return (target + scale * difference).clamp(0, 1)

    def excess(scale: float) -> float:
        return excess_loss(loss, scaled(scale), target) - level

    high = 1.0
    while excess(high) < 0:
        high *= 2
        if high > LARGEST_SCALE:
            return None
    root = scaled(brentq(excess, 0.0, high, xtol=1e-12, rtol=ROOT))
    return root if abs(excess_loss(loss, root, target) / level - 1) < CONSTRAINT else None
