"""Metamers: images as different as possible from the original at zero loss."""

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from losslens.lens.changes import NOISE, change_bank
from losslens.lens.null_space import furthest_metamer
from losslens.lens.subject import excess_loss, prepare
from losslens.losses.loss import linear_view

TOLERANCE = 1e-4  # loss that counts as zero
EXACT = "exact"
CROSSED = "crossed"
FIRST_WEIGHT = 0.3  # loss against distance, in units of the loss of noise per RMS
GROWTH = 1.05  # factor of that weight at each step above the tolerance; divisor below it
FIRST_RATE, LAST_RATE = 0.1, 1e-3  # Adam's, in pixel values
REPAIR_RATES = 1e-2, 1e-5
MIN_REPAIRS = 150  # steps
BISECTIONS = 20


@dataclass(frozen=True)
class Metamer:
    """An image that a loss takes for the original.

    Args:
        start: name of the search's start, `exact` if there was no search.
        image: `(1, 3, H, W)`, inside [0, 1].
        distance: mean absolute difference from the original over RGB.
        loss: excess over the loss of equal images; at most the tolerance.
        pulled: share of the way from the original to the end of the search; below 1 where only that brings the loss
            within the tolerance.
    """

    start: str
    image: Tensor
    distance: float
    loss: float
    pulled: float = 1.0


def metamers(
    loss: nn.Module,
    image: Tensor,
    *,
    starts: Mapping[str, Tensor] | None = None,
    exact: bool = True,
    steps: int = 300,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> list[Metamer]:
    """Look for images far from the original at zero loss, the furthest first.

    For a loss on a linear view the furthest is known exactly. Any other is searched: the mean absolute difference is
    maximized inside [0, 1] by Adam, with a weight on the loss that grows while it is above the tolerance (dual
    ascent), from every start; then the results are crossed, by the furthest at every pixel, and the search starts once
    more from there. A search may miss the furthest one: it shows what a loss is blind to, never that it is blind to
    nothing.

    Args:
        loss: any differentiable module of `(input, target)` that returns a scalar.
        image: float `(3, H, W)` in [0, 1]; the search computes in its precision.
        starts: further starts of the same shape, by name, in addition to noise and an inverted copy.
        exact: False searches for losses on linear views, too.
        steps: of Adam from each start.
        tolerance: loss that counts as zero.

    Raises:
        ValueError: as `prepare`.
    """
    view = linear_view(loss)
    if view is not None and exact:
        ready, target = prepare(loss, image, torch.float64)
        return [_metamer(EXACT, ready, target, furthest_metamer(view, target))]
    ready, target = prepare(loss, image, image.dtype)
    bank, rms = change_bank(target, seed=seed)
    unit = max(excess_loss(ready, bank[NOISE], target) / rms, 1e-12)
    generator = torch.Generator().manual_seed(seed)
    begin = {
        "noise": torch.rand(target.shape, generator=generator, dtype=torch.float64).to(target),
        "inverted copy": 1 - target,
    }
    begin |= {name: start.reshape(target.shape).to(target) for name, start in (starts or {}).items()}

    interrupted = threading.Event()

    def search(name: str) -> Metamer:
        own, _ = prepare(loss, image, image.dtype)  # a copy per thread: a loss may keep state
        goal = _Goal(own, target, tolerance, steps, interrupted)
        return _obey(name, goal, _search(goal, begin[name], FIRST_WEIGHT / unit, FIRST_RATE))

    workers = min(len(begin), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            found = list(pool.map(search, begin))
        except BaseException:
            interrupted.set()
            raise
    distances = torch.stack([(each.image - target).abs().sum(1, keepdim=True) for each in found])
    choice = distances.argmax(0, keepdim=True).expand(1, *target.shape)
    crossed = torch.stack([each.image for each in found]).gather(0, choice)[0]
    goal = _Goal(ready, target, tolerance, steps // 3, interrupted)
    found.append(_obey(CROSSED, goal, _search(goal, crossed, 30 * FIRST_WEIGHT / unit, FIRST_RATE / 5)))
    return sorted(found, key=lambda each: -each.distance)


@dataclass
class _Goal:
    """The objective of a search; `interrupted` ends it early."""

    loss: nn.Module
    target: Tensor
    tolerance: float
    steps: int
    interrupted: threading.Event
    at_equality: Tensor = field(init=False)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.at_equality = self.loss(self.target, self.target)

    def remaining(self, input: Tensor) -> Tensor:
        """Return the loss, less that of equal images."""
        value: Tensor = self.loss(input, self.target) - self.at_equality
        return value

    def rates(self, first: float, last: float, steps: int) -> Iterator[float]:
        """Yield a rate for each step, falling geometrically."""
        for step in range(steps):
            if self.interrupted.is_set():
                return
            yield first * (last / first) ** (step / steps)


def _search(goal: _Goal, start: Tensor, weight: float, rate: float) -> Tensor:
    """Maximize the distance less the weighted loss; Adam's `rate` falls geometrically."""
    input = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([input], betas=(0.9, 0.99))
    for now in goal.rates(rate, LAST_RATE, goal.steps):
        optimizer.param_groups[0]["lr"] = now
        remaining = goal.remaining(input)
        weight *= GROWTH if remaining > goal.tolerance else 1 / GROWTH
        _descend(weight * remaining - (input - goal.target).abs().mean(), input, optimizer)
    return input.detach()


def _obey(start: str, goal: _Goal, image: Tensor) -> Metamer:
    """Bring the loss below the tolerance: by descent, and if that fails, by moving back towards the original."""
    input = image.clone().requires_grad_()
    optimizer = torch.optim.Adam([input], betas=(0.5, 0.99))
    for now in goal.rates(*REPAIR_RATES, max(goal.steps // 2, MIN_REPAIRS)):
        remaining = goal.remaining(input)
        if remaining <= 0.99 * goal.tolerance:
            break
        optimizer.param_groups[0]["lr"] = now
        _descend(remaining, input, optimizer)
    difference, pulled = input.detach() - goal.target, 1.0

    def within(share: float) -> bool:
        return excess_loss(goal.loss, goal.target + share * difference, goal.target) <= goal.tolerance

    if not within(1.0):
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if within(middle) else (low, middle)
        pulled = low
    return _metamer(start, goal.loss, goal.target, goal.target + pulled * difference, pulled)


def _descend(value: Tensor, input: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take a step inside [0, 1]; where a gradient is not finite, as at the kinks of a loss, a pixel stays."""
    (gradient,) = torch.autograd.grad(value, input)
    input.grad = gradient.nan_to_num(0, 0, 0)
    optimizer.step()
    with torch.no_grad():
        input.clamp_(0, 1)


def _metamer(start: str, loss: nn.Module, target: Tensor, image: Tensor, pulled: float = 1.0) -> Metamer:
    distance = float((image - target).abs().mean())
    return Metamer(start, image, distance, excess_loss(loss, image, target), pulled)
