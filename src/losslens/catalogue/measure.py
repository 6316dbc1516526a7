"""Measurements of a loss: its responses, its gradients and its cost."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from losslens.lens import responses
from losslens.lens.changes import NOISE
from losslens.lens.subject import precision, prepare

NEGLIGIBLE = 1e-6  # share of the largest gradient, up to which a gradient counts as none
COST_SHAPE = (16, 3, 64, 64)  # a batch of the default training
ROUNDS = 15


@dataclass(frozen=True)
class Gradients:
    """How well gradient descent works with a loss, on one photograph.

    Args:
        bad: pairs of images at which a gradient is not finite.
        none: share of values without a gradient, for a faintly noisy reconstruction.
        far: root mean square of the gradient for noise in place of the reconstruction, over that for a faintly noisy
            one. 1 for L1; if much smaller, bad reconstructions learn slowly.
        towards: cosine between the direction of descent from noise and that to the original. 1 is straight.
        peak: largest gradient over the root mean square, for a faintly noisy reconstruction.
    """

    bad: list[str]
    none: float
    far: float
    towards: float
    peak: float


@dataclass(frozen=True)
class Measured:
    """Measurements of a loss on one photograph.

    Args:
        noise: value at white noise of the size of the bank's changes.
        responses: by change of the bank, relative to `noise`.
    """

    noise: float
    responses: dict[str, float]
    gradients: Gradients


def measure_loss(loss: nn.Module, image: Tensor, bank: dict[str, Tensor]) -> Measured:
    """Measure a loss on a photograph.

    Args:
        loss: any module of `(input, target)` to a scalar.
        image: float64 `(1, 3, H, W)` in [0, 1].
        bank: changed images by name (`losslens.lens.change_bank`).

    Raises:
        ValueError: as `losslens.lens.responses`.
    """
    found = responses(loss, image, bank=bank)
    relative = {name: response.relative for name, response in found.items()}
    return Measured(found[NOISE].value, relative, _gradients(loss, image, bank[NOISE]))


def _gradients(loss: nn.Module, image: Tensor, faint: Tensor) -> Gradients:
    ready, target = prepare(loss, image, precision(loss))

    def gradient(input: Tensor, target: Tensor) -> Tensor:
        input = input.to(target).clone().requires_grad_()
        (found,) = torch.autograd.grad(ready(input, target), input, allow_unused=True)
        return torch.zeros_like(target) if found is None else found

    noise = torch.rand(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(target)
    near, far = gradient(faint, target), gradient(noise, target)
    black, gray, white = (torch.full_like(target, level) for level in (0.0, 0.5, 1.0))
    pairs = {
        "two equal photographs": (target, target),
        "two black images": (black, black),
        "two gray images": (gray, gray),
        "two white images": (white, white),
        "black and white": (black, white),
        "a photograph and black": (target, black),
        "black and a photograph": (black, target),
    }
    size = near.square().mean().sqrt()
    return Gradients(
        bad=[name for name, pair in pairs.items() if not gradient(*pair).isfinite().all()],
        none=float((near.abs() <= NEGLIGIBLE * near.abs().max()).double().mean()),
        far=float(far.square().mean().sqrt() / size),
        towards=float(torch.cosine_similarity(-far.flatten().double(), (target - noise).flatten().double(), dim=0)),
        peak=float(near.abs().max() / size),
    )


def costs(losses: Mapping[str, nn.Module], baseline: nn.Module) -> dict[str, float]:
    """Time a forward and backward pass of each loss on one core, as a multiple of a baseline timed in turns with it."""
    images = torch.rand(2, *COST_SHAPE, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        second = partial(_pass, baseline, images)
        return {name: _ratio(partial(_pass, loss, images), second) for name, loss in losses.items()}
    finally:
        torch.set_num_threads(threads)


def _pass(loss: nn.Module, images: Tensor) -> None:
    input = images[0].clone().requires_grad_()
    loss(input, images[1]).backward()


def _ratio(first: Callable[[], None], second: Callable[[], None]) -> float:
    """Return the median time of the first over that of the second, timed in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for function, measured in zip((first, second), times, strict=True):
            function()  # warm-up: memory and caches are those of the other one
            begin = time.perf_counter()
            function()
            measured.append(time.perf_counter() - begin)
    return statistics.median(times[0]) / statistics.median(times[1])
