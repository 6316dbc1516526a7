"""One step of many variants for a CUDA graph: work shared by all, and a branch for each."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losslens.data.store import gather
from losslens.training.rates import learning_rates
from losslens.training.variant_trainer import VariantTrainer


class SharedStep:
    """A step of all members that reads all its inputs from the device: batch indices, learning rates, images.

    `begin` gathers the batches of all, a branch for each member takes its optimizer step, and `end` stores what they
    logged. Called repeatedly, or replayed, this takes the steps that `prepare` has queued, one after another. Tensors
    that outlive a step are allocated here: memory that a graph allocates is reused in its next replay.

    Args:
        members: each must have taken a step already.
        images: uint8 `(N, 3, H, W)`, from which batches are gathered.
        batch_size: images per step.
        length: most steps that are queued at once.
    """

    def __init__(self, members: Sequence[VariantTrainer], images: Tensor, batch_size: int, length: int) -> None:
        device = images.device
        self.members = list(members)
        self.images = images
        self.length = length
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.indices = torch.zeros(len(members), length, batch_size, dtype=torch.int64, device=device)
        self.mirror = torch.zeros_like(self.indices, dtype=torch.bool)
        num_groups = [len(member.optimizer.param_groups) for member in members]
        self.rates = torch.zeros(sum(num_groups), length, dtype=torch.float32, device=device)
        self.names = {member: [*member.logged, "loss"] for member in members}
        self._groups = [slice(sum(num_groups[:place]), sum(num_groups[: place + 1])) for place in range(len(members))]
        num_values = sum(map(len, self.names.values()))
        self._kept = torch.zeros(num_values, length, dtype=torch.float32, device=device)
        self._places = torch.arange(length, device=device)
        self._logged: dict[VariantTrainer, list[Any]] = {}

    @property
    def branches(self) -> list[Callable[[], None]]:
        """The optimizer step of each member."""
        return [self._branch(place, member) for place, member in enumerate(self.members)]

    def begin(self) -> None:
        """Gather the batches and the learning rates of all."""
        indices, mirror = (part.index_select(1, self.counter)[:, 0] for part in (self.indices, self.mirror))
        self._batches = gather(self.images, indices.flatten(), mirror.flatten()).unflatten(0, indices.shape)
        self._now = self.rates.index_select(1, self.counter)[:, 0]

    def _branch(self, place: int, member: VariantTrainer) -> Callable[[], None]:
        def step() -> None:
            logged, member.logged = member.logged, {}
            try:
                with learning_rates(member.optimizer, self._now[self._groups[place]]):
                    loss = member.optimize(self._batches[place], look=False)
                if member.logged.keys() != logged.keys():
                    raise ValueError("what it logs is not the same at every step")
                self._logged[member] = [*(member.logged[name] for name in logged), loss]
            finally:
                member.logged = logged

        return step

    def end(self) -> None:
        """Store what all logged at the place of the step, and count the step."""
        values = [_scalar(value, self.counter.device) for logged in self._logged.values() for value in logged]
        # where training is deterministic, index_copy_ would sort, and may read the counter on the host
        now = self._places == self.counter
        self._kept.copy_(torch.where(now, torch.stack(values)[:, None], self._kept))
        self.counter.add_(1)

    def prepare(self, indices: Sequence[Tensor], mirror: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        """Queue steps, without waiting for the device.

        Args:
            indices: of each member, int64 `(steps, B)`.
            mirror: of each member, bool `(steps, B)`.
            rates: learning rates of each member, float32 `(groups, steps)`, on the CPU.
        """
        num_steps = len(indices[0])
        self.indices[:, :num_steps].copy_(torch.stack(list(indices)))
        self.mirror[:, :num_steps].copy_(torch.stack(list(mirror)))
        upload = torch.cat(list(rates))
        if self.counter.device.type == "cuda":
            upload = upload.pin_memory()
        self.rates[:, :num_steps].copy_(upload, non_blocking=True)
        self.counter.zero_()

    def values(self, num_steps: int) -> Tensor:
        """Copy the values of the latest steps to the CPU, float32 `(values, steps)`; valid once the device is done."""
        return self._kept[:, :num_steps].to("cpu", non_blocking=True, copy=True)


def _scalar(value: Any, device: torch.device) -> Tensor:
    return (
        value.float().reshape(())
        if isinstance(value, Tensor)
        else torch.full((), float(value), dtype=torch.float32, device=device)
    )
