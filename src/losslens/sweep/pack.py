"""Which variants train together elsewhere, and how long that takes: from a measured step of each kind of variant."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.memory import free_memory
from losslens.sweep.plan import count_workers, measure_kinds, most_variants
from losslens.training.cuda import NUM_STREAMS
from losslens.training.memory import MAX_SHARE_OF_FREE_MEMORY, Need, measure_step
from losslens.training.module import LitAutoencoder
from losslens.training.speed import time_step
from losslens.training.trainer import determinism_as_before, epoch_steps, make_trainer, trainer_settings
from losslens.training.variant_trainer import total_steps
from losslens.variant import Variant


@dataclass(frozen=True)
class Cost:
    """What a variant takes: memory, and seconds of training and validation, alone, with its number of threads."""

    need: Need
    seconds: float


@dataclass
class PackedArray:
    """Variants that train together.

    Args:
        num_workers: variants that compute at once.
        shares: whether they share what computes, as they do on a GPU, so that none is done the sooner for it.
    """

    num_workers: int
    shares: bool
    variants: list[Variant] = field(default_factory=list)
    work: float = 0.0  # seconds of all variants
    state: int = 0  # bytes of all variants
    steps: int = 0  # bytes of a step of all variants
    largest_step: int = 0  # bytes

    @property
    def seconds(self) -> float:
        """From the first step to the last; on a GPU, where variants share it, at most."""
        return self.work if self.shares else self.work / self.num_workers

    @property
    def bytes(self) -> int:
        """Of memory, at most at once."""
        return self.bytes_with(Need(0, 0))

    def bytes_with(self, need: Need) -> int:
        """Return the bytes with one more variant."""
        steps = min(self.steps + need.step, self.num_workers * max(self.largest_step, need.step))
        return self.state + need.state + steps

    def add(self, variant: Variant, cost: Cost) -> None:
        """Take a variant."""
        self.variants.append(variant)
        self.work += cost.seconds
        self.state += cost.need.state
        self.steps += cost.need.step
        self.largest_step = max(self.largest_step, cost.need.step)


def pack(groups: Sequence[tuple[Sequence[Variant], Sequence[Cost]]], num_slots: int) -> list[PackedArray]:
    """Divide variants into arrays that take about the same time, fit into memory, and keep all slots busy.

    Args:
        groups: variants that could train in one array, and what each takes.
        num_slots: arrays that train at once.

    Returns:
        The longest first.
    """
    total = sum(cost.seconds for _, costs in groups for cost in costs)
    arrays: list[PackedArray] = []
    for variants, costs in groups:
        share = sum(cost.seconds for cost in costs) / total if total else 0
        arrays += _divide(variants, costs, max(1, round(num_slots * share)), num_slots)
    return sorted(arrays, key=lambda array: -array.seconds)


@determinism_as_before()
def _divide(variants: Sequence[Variant], costs: Sequence[Cost], count: int, num_slots: int) -> list[PackedArray]:
    """Divide a group into that many arrays, or more if memory or `array.max_variants` want it."""
    device = _trainer(variants[0]).strategy.root_device
    on_cpu = device.type == "cpu"
    num_workers = count_workers(variants) if on_cpu else NUM_STREAMS
    most = most_variants(variants) or len(variants)
    # Slots on this machine share its memory, but each has a GPU of its own.
    budget = MAX_SHARE_OF_FREE_MEMORY * free_memory(device) / (num_slots if on_cpu else 1)
    arrays = [PackedArray(num_workers, not on_cpu) for _ in range(min(count, len(variants)))]
    queue = [(0.0, place) for place in range(len(arrays))]  # a heap: seconds of an array, and which
    # The longest comes first, to the emptiest.
    for variant, cost in sorted(zip(variants, costs, strict=True), key=lambda each: -each[1].seconds):
        seconds, place = heapq.heappop(queue) if queue else (0.0, len(arrays))
        if place == len(arrays) or (arrays[place].variants and arrays[place].bytes_with(cost.need) > budget):
            seconds, place = 0.0, len(arrays)  # the one that is full is not asked again
            arrays.append(PackedArray(num_workers, not on_cpu))
        arrays[place].add(variant, cost)
        if len(arrays[place].variants) < most:
            heapq.heappush(queue, (seconds + cost.seconds, place))
    return arrays


@determinism_as_before()
def variant_costs(variants: Sequence[Variant], images: Images) -> list[Cost]:
    """Measure what each variant of a group takes; what comes at the start and the end besides is left out.

    Raises:
        ValueError: if training has no end.
    """
    trainer, config = _trainer(variants[0]), variants[0].config["trainer"]
    device, batch_size = trainer.strategy.root_device, variants[0].config["data"]["batch_size"]
    in_epoch = epoch_steps(config, len(images.train), batch_size)
    steps = total_steps(trainer, in_epoch)
    if steps == float("inf"):
        raise ValueError("training has no end: give trainer.max_epochs or trainer.max_steps")
    validations = steps / max(in_epoch, 1) / (trainer.check_val_every_n_epoch or 1)

    def measure(module: LitAutoencoder, batch: Tensor) -> Cost:
        step, forward = time_step(module, batch, device, variants[0].threads, trainer.precision_plugin)
        seconds = steps * step + validations * forward * len(images.val) / len(batch)
        return Cost(measure_step(module, batch, device, trainer.precision_plugin), seconds)

    return measure_kinds(variants, images, measure, Cost(Need(0, 0), 0.0))


def _trainer(variant: Variant) -> L.Trainer:
    """Make a variant's Trainer, or one for the CPU where it is for a device that this machine does not have."""
    config = trainer_settings(variant.config)
    if config.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        config = {**config, "accelerator": "cpu", "precision": "32-true"}
    return make_trainer(config, variant.folder, [])
