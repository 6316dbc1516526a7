"""How many variants fit into memory at once, from a measured step, and what is raised when it runs out."""

import bisect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losslens.training.module import LitAutoencoder

MAX_SHARE_OF_FREE_MEMORY = 0.8  # allocators waste some, and validation needs some


class OutOfMemory(Exception):
    """A step ran out of memory before it changed any weight, so that it can be taken again."""


@dataclass(frozen=True)
class Need:
    """Bytes that a variant needs: `state` as long as it trains, `step` more while it computes one."""

    state: int
    step: int


def measure_step(module: LitAutoencoder, images: Tensor, device: torch.device, precision: Any) -> Need:
    """Take one optimizer step with a copy of a module, and measure.

    The state is counted on the tensors of weights, gradients and optimizer. A step's bytes are the allocator's peak on
    a GPU; on a CPU, what the forward pass keeps for the backward pass, twice, since gradients come in the same shapes.

    Args:
        module: on the CPU; it is not changed.
        images: a batch, float `(B, 3, H, W)`.
        device: where it is going to train.
        precision: plugin of the Trainer.
    """
    copy = precision.convert_module(deepcopy(module)).to(device)
    images = images.to(device)
    optimizer = copy.make_optimizer(copy.parameters())
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
    return Need(sum(tensor.nbytes for tensor in state if isinstance(tensor, Tensor)), peak)


def trial_loss(module: LitAutoencoder, images: Tensor, precision: Any) -> Tensor:
    """Return the loss of a batch as a training step computes it; nothing is logged."""
    images = precision.convert_input(images)
    with precision.forward_context():
        reconstructions = module(images)
        with torch.autocast(images.device.type, enabled=False):
            loss: Tensor = module.loss(reconstructions, images)
    return loss


def variants_that_fit(needs: Sequence[Need], free: int, num_workers: int) -> int:
    """Return how many variants of these needs fit at once, at least 1.

    Args:
        needs: of each variant, in their order.
        free: bytes.
        num_workers: variants that compute at once.
    """
    budget = MAX_SHARE_OF_FREE_MEMORY * free

    def fit(count: int) -> bool:
        steps = sorted((need.step for need in needs[:count]), reverse=True)[:num_workers]
        return sum(need.state for need in needs[:count]) + sum(steps) <= budget

    return max(1, bisect.bisect_right(range(1, len(needs) + 1), 0, key=lambda count: int(not fit(count))))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or Python says so."""
    kinds = torch.OutOfMemoryError | MemoryError | OutOfMemory
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
