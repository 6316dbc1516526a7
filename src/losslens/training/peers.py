"""Processes that train one variant together, each on its share of every batch.

Their gradients are averaged after the backward pass of each step. Lightning's own strategies wrap the forward pass of
one module, and an array steps its members itself.
"""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from losslens.training.stop import Stop


class PeerLost(BaseException):
    """Another process of the variant is gone; what this one did since the last state does not count."""


class Peers:
    """All processes of a variant, as one of them sees them.

    Args:
        rank: of this process.
        count: of processes.
        wish: to stop, of this process.
    """

    def __init__(self, rank: int, count: int, wish: Stop) -> None:
        self.rank = rank
        self.count = count
        self.wish = wish
        self.agreed = Stop()  # at the same step everywhere

    @property
    def part(self) -> slice:
        """This process's part of every batch."""
        return slice(self.rank, None, self.count)

    def check_shares(self, batch_size: int, num_val: int) -> None:
        """Raise a ValueError if there is not an equal share of every batch, or no image to validate on, for each."""
        if batch_size % self.count or num_val < self.count:
            raise ValueError(
                f"data.batch_size {batch_size} and {num_val} images to validate on are not enough for {self.count} "
                f"processes: use a multiple of {self.count}, or fewer processes"
            )

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the mean over all processes."""
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        works = [dist.all_reduce(gradient, async_op=True) for gradient in gradients]
        for gradient, work in zip(gradients, works, strict=True):
            work.wait()
            gradient /= self.count

    def agree(self, loss: Tensor, logged: MutableMapping[str, Any]) -> Tensor:
        """Return the mean of the losses of all processes, and let all stop that any is asked to.

        Args:
            loss: of this one.
            logged: gets that mean as `train/loss`, and those of the terms of a mix.
        """
        terms = [name for name in logged if name.startswith("train/loss/")]
        asked = loss.new_tensor(float(bool(self.wish)))
        shared = torch.stack([each.detach().float() for each in (loss, *(logged[name] for name in terms), asked)])
        dist.all_reduce(shared)
        if shared[-1] > 0:
            self.wish.request("another process of it was asked to stop", 130)
            self.agreed.request(self.wish.reason, self.wish.exit_code)
        means = shared[:-1] / self.count
        logged.update(zip(["train/loss", *terms], means.unbind(), strict=True))
        return means[0]

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether it is true in any process."""
        return bool(self.sum(torch.tensor(float(value), device=device)) > 0)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        dist.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Let all have the first process's buffers that are part of its state, such as statistics of batch norms."""
        state = module.state_dict()
        for name, buffer in module.named_buffers():
            if name in state:
                dist.broadcast(buffer, 0)


def num_peers(trainer: Mapping[str, Any]) -> int:
    """Return how many processes a Trainer's settings want for one variant.

    Raises:
        ValueError: if they do not say.
    """
    if trainer.get("strategy") != "ddp":
        return 1
    devices = trainer.get("devices")
    count = torch.cuda.device_count() if devices == "auto" else devices
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"trainer.devices is {devices}: with trainer=ddp give the number of processes")
    return count


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def on_gpus(trainer: Mapping[str, Any]) -> bool:
    """Whether a Trainer's settings lead to GPUs on this machine."""
    return trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def check_accelerator(trainer: Mapping[str, Any]) -> None:
    """Raise a ValueError if a Trainer's settings want a device that variants do not train on, or that is not here."""
    wanted = trainer.get("accelerator", "auto")
    if wanted not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={wanted}: variants train on CUDA GPUs and on the CPU: use trainer=auto")
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={wanted}, and PyTorch sees no CUDA GPU here: use trainer=auto, or another machine"
        )


def join_peers(trainer: Mapping[str, Any], wish: Stop) -> Peers:
    """Meet the other processes that torchrun has started.

    Args:
        trainer: settings of the Trainer.
        wish: to stop, of this process.
    """
    count = int(os.environ["WORLD_SIZE"])
    if on_gpus(trainer):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpus(trainer) else "gloo")
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # each writes into a folder of its own
    return Peers(dist.get_rank(), count, wish)
