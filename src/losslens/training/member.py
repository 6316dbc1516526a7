"""A variant in training: what it consists of, how it takes a step, what it logs."""

import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from losslens.data.store import OrderStream
from losslens.training.hooks import STEP_HOOKS, overriding
from losslens.training.memory import OutOfMemory, is_out_of_memory
from losslens.training.module import LitAutoencoder
from losslens.training.random_stream import RandomStream
from losslens.training.rates import learning_rates
from losslens.training.variant_trainer import VariantTrainer


class Stage(IntEnum):
    """What has been done after a member's latest step."""

    STEP = 0  # nothing more
    EPOCH = 1  # all that comes at the end of an epoch, validation for instance
    END = 2  # all that comes at the end of training


class Member:
    """A variant in an array: module, optimizer, schedule, random streams, callbacks, and what has become of it.

    Made right after the module, when the global random state is what training alone would start from.

    Args:
        name: of the variant.
        module: what is trained.
        seed: of the order of its data.
        folder: of the variant.
        logger: of the variant.
        callbacks: ordinary ones; they see a `VariantTrainer` and the variant's module.
        on_failure: called with the error if it fails.
    """

    optimizer: torch.optim.Optimizer
    schedule: Any
    trainer: VariantTrainer

    def __init__(
        self,
        name: str,
        module: LitAutoencoder,
        *,
        seed: int,
        folder: Path,
        logger: Logger,
        callbacks: Sequence[L.Callback],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.module = module
        self.folder = folder
        self.logger = logger
        self.callbacks = list(callbacks)
        self.on_failure = on_failure
        self.random = RandomStream()
        self.order = OrderStream(seed)
        self.step = 0
        self.first_step = 0  # in this process
        self.saved: tuple[int, Stage, int, bool] | None = None  # what its last state on disk says of it
        self.device_before: str | None = None  # type of the device that it goes on from
        self.seconds = 0.0  # of training, up to the last state that was written
        self.validated_step = -1
        self.metrics: dict[str, Tensor] = {}
        self.logged: MutableMapping[str, Any] = {}
        self.should_stop = False
        self.stopped = False
        self.failure: Exception | None = None
        self._has_validated = False  # in this process
        self._means: dict[str, tuple[Any, int]] | None = None
        self._restored: dict[str, Any] | None = None
        self._step_hooks = {hook: overriding(self, hook) for hook in STEP_HOOKS}

    @property
    def active(self) -> bool:
        """Whether it goes on training."""
        return not self.stopped and self.failure is None

    @property
    def has_step_hooks(self) -> bool:
        """Whether a callback, or the module itself, wants to see every step."""
        return any(self._step_hooks.values())

    def attach(self, trainer: L.Trainer, steps_per_epoch: int) -> None:
        """Let the module and the callbacks see the variant's own trainer."""
        self.trainer = VariantTrainer(trainer, self, steps_per_epoch)
        self.module.trainer = self.trainer  # type: ignore[assignment]
        # A function, not a method: a callback that copies the module would copy the member with it.
        object.__setattr__(self.module, "log", lambda *args, **kwargs: self.log(*args, **kwargs))

    def configure(self) -> None:
        """Make the optimizer and the schedule."""
        made: Any = self.module.configure_optimizers()
        self.optimizer = made["optimizer"] if isinstance(made, dict) else made
        self.schedule = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
        for group in self.optimizer.param_groups:
            if "capturable" in group and self.module.device.type == "cuda":
                group["capturable"] = True  # its count of steps lives on the device
        if self._restored is not None:
            self._load(self._restored)
            self._restored = None

    def _load(self, state: dict[str, Any]) -> None:
        """Load weights, callbacks, optimizer and schedule, in Lightning's order."""
        checkpoint = state["checkpoint"]
        self.module.on_load_checkpoint(checkpoint)
        self.module.load_state_dict(checkpoint["state_dict"], strict=self.module.strict_loading)
        self.hook_callbacks("on_load_checkpoint", checkpoint)
        for callback, own in zip(self.callbacks, state["callbacks"], strict=True):
            if own:
                callback.load_state_dict(own)
        self.module.load_state_dict(state["weights"])  # whatever callbacks made of those of the checkpoint
        (optimizer,) = checkpoint["optimizer_states"]
        for group, saved in zip(self.optimizer.param_groups, optimizer["param_groups"], strict=True):
            if "capturable" in group:
                saved["capturable"] = group["capturable"]  # as this device wants it
        self.optimizer.load_state_dict(optimizer)
        for schedule in checkpoint["lr_schedulers"]:
            self.schedule.load_state_dict(schedule)

    def state(self, stage: Stage) -> dict[str, Any]:
        """Return all that it takes to go on from here, as tensors and plain values."""
        at_end = stage is not Stage.STEP and self.step % max(self.trainer.num_training_batches, 1) == 0
        return {
            "step": self.step,
            "seconds": self.seconds,
            "validated_step": self.validated_step,
            "stopped": self.stopped,
            "should_stop": self.should_stop,
            "random": self.random.state_dict(),
            "order": self.order.place if at_end else self.order.start,
            "metrics": dict(self.metrics),
            "logged": {name: torch.as_tensor(value) for name, value in self.logged.items()},
            "weights": self.module.state_dict(),
            "checkpoint": self.trainer.dump_checkpoint(),
            "callbacks": [each.state_dict() for each in self.callbacks],  # in their order: two of a class have one key
            "device": self.trainer.strategy.root_device.type,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; weights, optimizer and callbacks do once the callbacks are set up."""
        self.random.load_state_dict(state["random"])
        self.order.go_on_from(state["order"])
        self.metrics, self.logged = dict(state["metrics"]), dict(state["logged"])
        self.device_before = state["device"]
        self.step = self.first_step = state["step"]
        self.seconds = state["seconds"]
        self.validated_step = state["validated_step"]
        self.stopped, self.should_stop = state["stopped"], state["should_stop"]
        self._restored = state

    def hook(self, name: str, *arguments: Any) -> None:
        """Call a hook of the callbacks, then of the module."""
        self.hook_callbacks(name, *arguments)
        getattr(self.module, name)(*arguments)

    def hook_callbacks(self, name: str, *arguments: Any) -> None:
        """Call a hook of the callbacks."""
        for callback in self.callbacks:
            getattr(callback, name)(self.trainer, self.module, *arguments)

    def fail(self, error: Exception | SystemExit) -> None:
        """Leave the array with an error."""
        if isinstance(error, SystemExit):  # of a library inside of its loss or model
            error = RuntimeError(f"it wanted to end the program with sys.exit({error.code})").with_traceback(
                error.__traceback__
            )
        traceback.clear_frames(error.__traceback__)  # they hold the memory of a step
        self.failure = error
        for callback in self.callbacks:
            with suppress(Exception):
                callback.on_exception(self.trainer, self.module, error)  # type: ignore[arg-type]
        self.on_failure(error)

    def may_stop(self, epochs_done: int | None = None) -> bool:
        """Whether a callback asked it to stop and the Trainer's `min_epochs` and `min_steps` allow it."""
        if not self.should_stop:
            return False
        epochs_done = self.trainer.current_epoch if epochs_done is None else epochs_done
        return epochs_done >= (self.trainer.min_epochs or 0) and self.step >= (self.trainer.min_steps or 0)

    def turn(self) -> AbstractContextManager[None]:
        """Enter around what may draw random numbers; at the first step and validation, to find out whether it does."""
        looks = self.step == self.first_step or (self._means is not None and not self._has_validated)
        return self.random.turn() if self.random.drawn or looks else nullcontext()

    def optimize(self, images: Tensor, *, look: bool) -> Tensor:
        """Take one optimizer step; returns the loss. The schedule is not stepped.

        Args:
            images: float `(B, 3, H, W)`.
            look: whether the host looks at the loss before it is used.

        Raises:
            ValueError: if it looked, and the loss is not finite.
            OutOfMemory: if memory ran out before a weight was changed.
        """
        precision, optimizer = self.trainer.precision_plugin, self.optimizer
        try:
            images = precision.convert_input(images)
            with precision.forward_context():
                loss = self.module.training_step(images)
            shown = loss.detach()
            if look:
                self.check(shown.item(), self.step + 1)
            self._call("on_before_zero_grad", optimizer)
            optimizer.zero_grad()
            self._call("on_before_backward", loss)
            loss.backward()
            self._call("on_after_backward")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            optimizer.zero_grad()
            raise OutOfMemory(str(error).partition("\n")[0]) from None
        self._call("on_before_optimizer_step", optimizer)
        self.trainer.clip_gradients(optimizer)
        optimizer.step()
        return shown

    def train(self, images: Tensor, *, look: bool, rates: Sequence[float] | None = None) -> Tensor:
        """Take one whole step as Lightning's loop does, maybe at other learning rates; returns the loss."""
        batch_idx = self.step % max(self.trainer.num_training_batches, 1)
        with self.turn():
            self._call("on_train_batch_start", images, batch_idx)
            with learning_rates(self.optimizer, rates):
                loss = self.optimize(images, look=look)
            if self.schedule is not None:
                self.schedule.step()
            self.step += 1
            self._call("on_train_batch_end", {"loss": loss}, images, batch_idx)
        return loss

    def check(self, loss: float, step: int) -> None:
        """Raise a ValueError that says what to do if a loss is not finite."""
        if loss - loss != 0:  # true for NaN and both infinities
            raise ValueError(
                f"the loss is {loss} at step {step}: lower the learning rate (optimizer.lr=...), "
                "clip gradients (trainer.gradient_clip_val=1), or mend the loss"
            )

    def write_log(self, values: MutableMapping[str, Any], step: int) -> None:
        """Hand what a step logged to the logger."""
        self.metrics |= {name: torch.as_tensor(value) for name, value in values.items()}
        numbers = {name: float(value) for name, value in values.items()}
        self.logger.log_metrics({**numbers, "epoch": self.trainer.current_epoch}, step=step)

    def log(self, name: str, value: Any, *_: Any, batch_size: int | None = None, **__: Any) -> None:
        """Stand in for `LightningModule.log`: the value of a step, or in validation the mean over images."""
        value = value.detach() if isinstance(value, Tensor) else value
        if self._means is None:
            self.logged[name] = value
        else:
            total, count = self._means.get(name, (0.0, 0))
            self._means[name] = (total + value * (batch_size or 1), count + (batch_size or 1))

    def begin_validation(self) -> None:
        """From here on, `log` takes means."""
        self._means = {}

    def end_validation(self) -> None:
        """Keep the means as metrics, and hand them to the logger."""
        assert self._means is not None
        means, self._means, self._has_validated = self._means, None, True
        self.validated_step = self.step
        self.write_log({name: total / count for name, (total, count) in means.items()}, self.step)

    def _call(self, name: str, *arguments: Any) -> None:
        for function in self._step_hooks[name]:
            function(*arguments)
