"""Measure the bytes and seconds that training a variant takes, from one step."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.training.capture import Capture, CaptureFailed
from losslens.training.module import LitAutoencoder
from losslens.training.trainer import determinism_as_before, epoch_steps, make_trainer, trainer_settings
from losslens.training.variant_trainer import total_steps
from losslens.variant import Variant, config_key

NUM_MEASURED = 5


@dataclass(frozen=True)
class StepBytes:
    """Bytes that a variant needs: `state` throughout training, `step` in addition during a step."""

    state: int
    step: int


@dataclass(frozen=True)
class VariantCost:
    """Cost of a variant: memory, and seconds of training and validation alone, with its number of threads."""

    bytes: StepBytes
    seconds: float


NOTHING = VariantCost(StepBytes(0, 0), 0.0)


@determinism_as_before()
def variant_costs(variants: Sequence[Variant], images: Images, *, timed: bool = True) -> list[VariantCost]:
    """Measure the cost of each variant of a group, from one variant of each kind.

    Start and end of training are left out. A variant that cannot be made or measured costs nothing: it fails later, by
    itself.

    Args:
        timed: whether seconds are measured, too; else they are 0.

    Raises:
        ValueError: if `timed`, and training has no end.
    """
    trainer, config = trial_trainer(variants[0]), variants[0].config
    device, threads, precision = trainer.strategy.root_device, variants[0].threads, trainer.precision_plugin
    batch = images.train[: config["data"]["batch_size"]].float() / 255
    in_epoch = epoch_steps(config["trainer"], len(images.train), config["data"]["batch_size"])
    steps = total_steps(trainer, in_epoch)
    if timed and steps == float("inf"):
        raise ValueError("training has no end: give trainer.max_epochs or trainer.max_steps")
    validations = steps / max(in_epoch, 1) / (trainer.check_val_every_n_epoch or 1)

    def measure(variant: Variant) -> VariantCost:
        try:
            module = LitAutoencoder(variant.config["model"], variant.config["loss"], variant.config["optimizer"])
            seconds = 0.0
            if timed:
                step, forward = time_step(module, batch, device, threads, precision)
                seconds = steps * step + validations * forward * len(images.val) / len(batch)
            return VariantCost(measure_step(module, batch, device, precision), seconds)
        except Exception:
            return NOTHING

    kinds = [
        config_key(variant.config["model"], variant.config["loss"], variant.config["optimizer"]) for variant in variants
    ]
    known = {kind: measure(variant) for kind, variant in dict(zip(kinds, variants, strict=True)).items()}
    return [known[kind] for kind in kinds]


def measure_step(module: LitAutoencoder, images: Tensor, device: torch.device, precision: Any) -> StepBytes:
    """Measure the bytes of one optimizer step with a copy of a module.

    The state is counted on the tensors of weights, gradients and optimizer. A step's bytes are the allocator's peak on
    a GPU; on a CPU, what the forward pass keeps for the backward pass, twice, since gradients come in the same shapes.

    Args:
        module: on the CPU; it is not changed.
        images: a batch, float `(B, 3, H, W)`.
        precision: plugin of the Trainer.
    """
    copy, optimizer, images = _on_trial(module, images, device, precision)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trial_loss(copy, images, precision)
    loss.backward()
    peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else 2 * sum(kept.values())
    optimizer.step()
    state = [*copy.parameters(), *copy.buffers(), *(weight.grad for weight in copy.parameters())]
    state += [value for values in optimizer.state.values() for value in values.values()]
    return StepBytes(sum(tensor.nbytes for tensor in state if isinstance(tensor, Tensor)), peak)


def time_step(
    module: LitAutoencoder, images: Tensor, device: torch.device, num_threads: int, precision: Any
) -> tuple[float, float]:
    """Measure the seconds of an optimizer step, and of a forward pass with its loss: each the median of a few.

    Args:
        module: on the CPU; it is not changed.
        images: a batch, float `(B, 3, H, W)`.
        precision: plugin of the Trainer.
    """
    copy, optimizer, images = _on_trial(module, images, device, precision)
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


def _on_trial(
    module: LitAutoencoder, images: Tensor, device: torch.device, precision: Any
) -> tuple[LitAutoencoder, torch.optim.Optimizer, Tensor]:
    """Return a copy of a module as it trains on a device, with an optimizer of its own, and the images there."""
    copy: LitAutoencoder = precision.convert_module(deepcopy(module)).to(device)
    return copy, copy.make_optimizer(copy.parameters()), images.to(device)


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
    function()  # warm-up, in which kernels are chosen
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


def trial_loss(module: LitAutoencoder, images: Tensor, precision: Any) -> Tensor:
    """Return the loss of a batch as a training step computes it; nothing is logged."""
    images = precision.convert_input(images)
    with precision.forward_context():
        reconstructions = module(images)
        with torch.autocast(images.device.type, enabled=False):
            loss: Tensor = module.loss(reconstructions, images)
    return loss


def trial_trainer(variant: Variant) -> L.Trainer:
    """Make a variant's Trainer, or one for the CPU if this machine lacks its device."""
    config = trainer_settings(variant.config)
    if config.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        config = {**config, "accelerator": "cpu", "precision": "32-true"}
    return make_trainer(config, variant.folder, [])
