"""Settings of an optimizer that a CUDA graph holds as constants, and learning rates, which it reads from the device."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor


def fixed_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the settings of an optimizer that a graph holds as constants."""
    groups = optimizer.param_groups
    return [
        {
            **{name: value for name, value in group.items() if name not in ("params", "lr")},
            "trained": [weight.requires_grad for weight in group["params"]],
        }
        for group in groups
    ]


def single_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates, one per group, rounded to float32 as a graph reads them, so that bits are equal."""
    return [struct.unpack("f", struct.pack("f", float(group["lr"])))[0] for group in optimizer.param_groups]


def next_rates(optimizer: torch.optim.Optimizer, schedule: Any, num_steps: int) -> Tensor:
    """Step a schedule ahead; returns the learning rates before each step, float32 `(groups, steps)`."""
    rates = []
    for _ in range(num_steps):
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        if schedule is not None:
            schedule.step()
    return torch.tensor(rates, dtype=torch.float32).T


def snapshot(optimizer: torch.optim.Optimizer, schedule: Any) -> Callable[[], None]:
    """Return a function that restores a schedule, and the settings that it changes, to their present state."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    place = None if schedule is None else deepcopy(schedule.state_dict())

    def restore() -> None:
        if schedule is not None:
            schedule.load_state_dict(place)
        for group, before in zip(optimizer.param_groups, settings, strict=True):
            group.update(before)

    return restore


@contextmanager
def learning_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float] | Tensor | None) -> Iterator[None]:
    """Let an optimizer use other learning rates, one per group: numbers, or a tensor on the device; None: its own."""
    if rates is None:
        yield
        return
    groups = optimizer.param_groups
    own = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    try:
        yield
    finally:
        for group, rate in zip(groups, own, strict=True):
            group["lr"] = rate
