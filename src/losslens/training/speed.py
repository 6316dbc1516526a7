"""How long a step takes, measured."""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from losslens.training.module import LitAutoencoder

NUM_MEASURED = 5


def time_step(
    module: LitAutoencoder, images: Tensor, device: torch.device, num_threads: int, precision: Any
) -> tuple[float, float]:
    """Measure the seconds of an optimizer step, and of a forward pass with its loss: each the median of a few.

    Args:
        module: on the CPU; it is not changed.
        images: a batch, float `(B, 3, H, W)`.
        device: where it is going to train.
        num_threads: of PyTorch on the CPU.
        precision: plugin of the Trainer.
    """
    copy = deepcopy(module).to(device)
    images = images.to(device)
    optimizer = copy.make_optimizer(copy.parameters())

    def forward() -> Tensor:
        with precision.forward_context():
            loss: Tensor = copy.loss(copy(precision.convert_input(images)), images)
        return loss

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    def validate() -> None:
        with torch.no_grad():
            forward()

    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        return _median_seconds(step, device), _median_seconds(validate, device)
    finally:
        torch.set_num_threads(threads)


def _median_seconds(function: Callable[[], None], device: torch.device) -> float:
    function()  # chooses its kernels
    measured = []
    for _ in range(NUM_MEASURED):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        measured.append(time.perf_counter() - begin)
    return sorted(measured)[NUM_MEASURED // 2]
