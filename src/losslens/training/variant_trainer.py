"""What callbacks and module of one variant see as their trainer."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor

from losslens.training.module import LitAutoencoder

if TYPE_CHECKING:
    from losslens.training.member import Member


class VariantTrainer:
    """What callbacks and module of one variant see as their trainer: the array's, and in it this variant alone.

    Attributes that are not here are those of the array's `lightning.Trainer`.

    Args:
        trainer: of the array.
        member: the variant.
        steps_per_epoch: of every variant of the array.
    """

    def __init__(self, trainer: L.Trainer, member: "Member", steps_per_epoch: int) -> None:
        self._trainer = trainer
        self._member = member
        self.num_training_batches = steps_per_epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    @property
    def lightning_module(self) -> LitAutoencoder:
        """The variant's module."""
        return self._member.module

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Latest values of all that was logged."""
        return self._member.metrics

    @property
    def global_step(self) -> int:
        """Optimizer steps of this variant."""
        return self._member.step

    @property
    def should_stop(self) -> bool:
        """Whether this variant is asked to leave the array."""
        return self._member.should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._member.should_stop = value

    @property
    def callbacks(self) -> list[L.Callback]:
        """The variant's callbacks."""
        return self._member.callbacks

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The variant's optimizer."""
        return [self._member.optimizer]

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The variant's schedule, stepped at every step."""
        schedule = self._member.schedule
        return [] if schedule is None else [LRSchedulerConfig(schedule, interval="step")]

    @property
    def logger(self) -> Logger:
        """The variant's logger."""
        return self._member.logger

    @property
    def loggers(self) -> list[Logger]:
        """The variant's logger."""
        return [self._member.logger]

    @property
    def default_root_dir(self) -> str:
        """The variant's folder, which callbacks compare with that of an earlier process."""
        return str(self._member.folder.resolve())

    @property
    def val_check_batch(self) -> Any:
        """After how many steps validation comes."""
        every = self._trainer.val_check_batch
        return self.num_training_batches if every == self._trainer.num_training_batches else every

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Steps of the whole training."""
        return total_steps(self._trainer, self.num_training_batches) or self.num_training_batches  # schedules need some

    def clip_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip as the array's settings say; by torch, since Lightning refuses fused optimizers in mixed precision."""
        array: Any = self._trainer.lightning_module
        most, algorithm = array.clip
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        if most > 0 and algorithm is GradClipAlgorithmType.VALUE:
            torch.nn.utils.clip_grad_value_(parameters, most)
        elif most > 0:
            torch.nn.utils.clip_grad_norm_(parameters, most)

    def dump_checkpoint(self, *, weights_only: bool = False) -> dict[str, Any]:
        """Return what a checkpoint of this variant alone holds; callbacks and module add to it as they do elsewhere."""
        member, module = self._member, self._member.module
        checkpoint: dict[str, Any] = {
            "epoch": self._trainer.current_epoch,
            "global_step": member.step,
            "pytorch-lightning_version": L.__version__,
            "state_dict": module.state_dict(),
            module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
        }
        if not weights_only:
            checkpoint["callbacks"] = {
                each.state_key: state for each in member.callbacks if (state := each.state_dict())
            }
            checkpoint["optimizer_states"] = [member.optimizer.state_dict()]
            checkpoint["lr_schedulers"] = [] if member.schedule is None else [member.schedule.state_dict()]
            member.hook_callbacks("on_save_checkpoint", checkpoint)
        module.on_save_checkpoint(checkpoint)
        return checkpoint

    def save_checkpoint(self, filepath: str | Path, weights_only: bool | None = None) -> None:
        """Write a checkpoint of this variant alone, which `LitAutoencoder.load_from_checkpoint` loads."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        encoded = io.BytesIO()  # torch tells of a full disk in words of its own
        torch.save(self.dump_checkpoint(weights_only=bool(weights_only)), encoded)
        Path(filepath).write_bytes(encoded.getbuffer())


def total_steps(trainer: L.Trainer, steps_per_epoch: int) -> int | float:
    """Return the optimizer steps of the whole training; infinity if it has no end."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    limits = [] if steps == -1 else [steps]
    if epochs is not None and epochs != -1:
        limits.append(steps_per_epoch * epochs)
    return min(limits, default=float("inf"))
