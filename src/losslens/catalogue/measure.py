"""What is measured of every loss: what it responds to, its gradients, and what it costs."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losslens.lens import responses
from losslens.lens.changes import NOISE
from losslens.lens.subject import precision, prepare

NEGLIGIBLE = 1e-6  # of the largest gradient: counts as none
COST_SHAPE = (16, 3, 64, 64)  # a batch of the default training
ROUNDS = 15


@dataclass(frozen=True)
class Gradients:
    """How well a loss can be descended, on one photograph.

    Args:
        bad: the pairs of images at which a gradient is not finite.
        none: share of values of the reconstruction without a gradient, for a faintly noisy one.
        far: root mean square of the gradient for noise in place of the reconstruction, over that for a faintly noisy
            one. 1 is that of L1; where it is much smaller, far reconstructions learn slowly.
        towards: cosine between the way that descent takes from noise and the way to the original. 1 is straight.
        peak: largest gradient over the root mean square, for a faintly noisy reconstruction.
    """

    bad: list[str]
    none: float
    far: float
    towards: float
    peak: float


@dataclass(frozen=True)
class Measured:
    """What a loss says about one photograph.

    Args:
        noise: its value at white noise of the size of all changes of the bank.
        responses: to every change of the bank, relative to `noise`.
        gradients: of the loss.
    """

    noise: float
    responses: dict[str, float]
    gradients: Gradients


def measure(loss: nn.Module, image: Tensor, bank: dict[str, Tensor]) -> Measured:
    """Ask a loss about a photograph.

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
    """Time one forward and backward pass of losses on one core, as a multiple of a baseline that takes turns with them.

    Args:
        losses: by name.
        baseline: what they are compared with.
    """
    images = torch.rand(2, *COST_SHAPE, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _ratio(lambda each=each: _pass(each, images), lambda: _pass(baseline, images))  # type: ignore[misc]
                for name, each in losses.items()}  # fmt: skip
    finally:
        torch.set_num_threads(threads)


def _pass(loss: nn.Module, images: Tensor) -> None:
    input = images[0].clone().requires_grad_()
    loss(input, images[1]).backward()


def _ratio(first: Callable[[], None], second: Callable[[], None]) -> float:
    """Median time of the first over that of the second, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for function, measured in zip((first, second), times, strict=True):
            function()  # its memory and caches are those that the other left
            begin = time.perf_counter()
            function()
            measured.append(time.perf_counter() - begin)
    return statistics.median(times[0]) / statistics.median(times[1])
