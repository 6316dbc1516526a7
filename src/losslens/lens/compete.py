"""One loss against another: how far apart can two images of equal loss be for the other one?"""

from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from losslens.lens.changes import NOISE, RMS, change_bank
from losslens.lens.responses import WEAK
from losslens.lens.subject import linear_view, measure, prepare
from losslens.losses import LinearView

FOOLED = 1e-2  # share of the other loss's value for noise under which it counts as zero
FIRST_RATE, LAST_RATE = 0.05, 1e-4  # RMS of a step, in values of a pixel
BOOST = 10.0  # of changes beside noise, in sizes of the noise
ROOT = 1e-4  # relative error of the scale that brings the held loss to its level
CONSTRAINT = 1e-3  # relative error of the loss that is held
LARGEST_SCALE = 1e3


@dataclass(frozen=True)
class Competition:
    """What an image may look like to one loss while another stays the same (Wang and Simoncelli, 2008).

    Args:
        held: the value at which the one loss is held: that of white noise.
        start: what the other says of the noise.
        low: the least that the other says of any image found; at most `start`.
        high: the most.
        low_image: `(1, 3, H, W)`, inside [0, 1].
        high_image: likewise.
        constraint_error: the larger relative error of the held loss at the two.
        zero_possible: whether the other can be 0, from algebra; None unless both views are linear.
        unbounded: whether only [0, 1] bounds the other, likewise.
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
        """Whether an image was found that is off for the held loss and as good as equal for the other."""
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
        other: likewise.
        image: float `(3, H, W)` in [0, 1]; computed in its precision.
        rms: of the noise.
        steps: in each of the two directions.
        seed: of the noise.

    Raises:
        ValueError: as `prepare`, and if the held loss does not respond to noise.
    """
    fixed, target = prepare(held, image, image.dtype)
    free, _ = prepare(other, image, image.dtype)
    bank, _ = change_bank(target, rms, seed)
    noisy = bank[NOISE]
    level, start = measure(fixed, noisy, target), measure(free, noisy, target)
    if not level > 0:
        raise ValueError(f"loss {type(held).__name__} is {level} for white noise: it cannot be held at that")
    starts = [noisy]
    for changed in bank.values():  # alone, or beside noise where the held loss hardly sees them
        if measure(fixed, changed, target) < WEAK * level:
            changed = (noisy + BOOST * (changed - target)).clamp(0, 1)
        on_level = _to_level(fixed, target, changed, level)
        starts += [] if on_level is None else [on_level]
    values = [measure(free, each, target) for each in starts]
    extremes = [starts[values.index(extreme(values))] for extreme in (min, max)]
    found = [
        _push(fixed, free, target, begin, level, sign, steps) for begin, sign in zip(extremes, (-1, 1), strict=True)
    ]
    errors = [abs(measure(fixed, each, target) / level - 1) for each in found]
    zero_possible, unbounded = known_pattern(linear_view(held), linear_view(other))
    low, high = (measure(free, each, target) for each in found)
    return Competition(level, start, low, high, found[0], found[1], max(errors), zero_possible, unbounded)


def known_pattern(held: LinearView | None, other: LinearView | None) -> tuple[bool | None, bool | None]:
    """Say from algebra whether the other can be 0 while the held is not, and whether only [0, 1] bounds the other.

    The first holds where a direction that the other does not see is seen by the held one, the second the other way
    round.
    """
    if held is None or other is None:
        return None, None
    together = LinearView(torch.cat([held.weights, other.weights]).tolist())
    rank = len(together.seen_axes())
    return rank > len(other.seen_axes()), rank > len(held.seen_axes())


def _push(
    fixed: nn.Module, free: nn.Module, target: Tensor, start: Tensor, level: float, sign: int, steps: int
) -> Tensor:
    """Return the image with the most extreme value of the free loss that was met on the level."""
    input, best, best_value = start, start, measure(free, start, target)
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
        value = measure(free, input, target)
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
        return measure(loss, scaled(scale), target) - level

    high = 1.0
    while excess(high) < 0:
        high *= 2
        if high > LARGEST_SCALE:
            return None
    root = scaled(brentq(excess, 0.0, high, xtol=1e-12, rtol=ROOT))
    return root if abs(measure(loss, root, target) / level - 1) < CONSTRAINT else None
