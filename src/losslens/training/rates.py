"""What of an optimizer a CUDA graph holds as constants, and the learning rates, which it reads from the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from losslens.training.member import Member


def fixed_settings(member: Member) -> list[dict[str, Any]]:
    """Settings of the optimizer that a graph holds as constants."""
    groups = member.optimizer.param_groups
    return [{name: value for name, value in group.items() if name not in ("params", "lr")} for group in groups]


def next_rates(member: Member, num_steps: int) -> Tensor:
    """Step the schedule ahead; returns the learning rates on its way, float32 `(groups, steps)`."""
    rates = []
    for _ in range(num_steps):
        rates.append([float(group["lr"]) for group in member.optimizer.param_groups])
        if member.schedule is not None:
            member.schedule.step()
    return torch.tensor(rates).T


@contextmanager
def learning_rates(member: Member, rates: Tensor) -> Iterator[None]:
    """Let the optimizer read its learning rates, one per group, from the device."""
    groups = member.optimizer.param_groups
    own = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    try:
        yield
    finally:
        for group, rate in zip(groups, own, strict=True):
            group["lr"] = rate
