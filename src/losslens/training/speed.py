"""How long a step takes, measured."""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from losslens.training.capture import Capture, CaptureFailed
from losslens.training.memory import trial_loss
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
    copy = precision.convert_module(deepcopy(module)).to(device)
    images = images.to(device)
    optimizer = copy.make_optimizer(copy.parameters())
    for group in optimizer.param_groups:
        if "capturable" in group and device.type == "cuda":
            group["capturable"] = True

    def step() -> None:
        optimizer.zero_grad()
        trial_loss(copy, images, precision).backward()
        optimizer.step()

    def validate() -> None:
        with torch.no_grad():
            trial_loss(copy, images, precision)

    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        return _median_seconds(_replayed(step, device), device), _median_seconds(validate, device)
    finally:
        torch.set_num_threads(threads)


def _replayed(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture a step as a CUDA graph, as training does, if there is a GPU and the step can be captured."""
    if device.type != "cuda":
        return step
    capture = Capture(device)
    capture.stream(0).wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(capture.stream(0)):
        for _ in range(NUM_MEASURED):
            step()
    try:
        return capture.record(lambda: None, [step], lambda: None, 1)
    except CaptureFailed:
        return step


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
