"""A variant in training: its parts, its steps, its log, and the Trainer that its callbacks see."""

import io
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor

from losslens.data.store import OrderStream
from losslens.training.listener import Listener
from losslens.training.module import LitAutoencoder
from losslens.training.random_stream import RandomStream
from losslens.training.rates import learning_rates
from losslens.training.stop import OutOfMemory, is_out_of_memory

# Hooks that a callback or module may have at every step, in the order of Lightning's automatic optimization.
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Stage(IntEnum):
    """Stage that a member has reached after its latest step."""

    STEP = 0  # nothing after it
    EPOCH = 1  # all that comes at the end of an epoch, validation for instance
    END = 2  # all that comes at the end of training


class VariantTrainer:
    """A variant in training; its callbacks and its module see it as the Trainer of this variant alone.

    It holds module, optimizer, schedule, random streams and callbacks; other attributes are those of the array's
    `lightning.Trainer`. Make it right after the module, when the global random state is that in which training alone
    would start.

    Args:
        seed: of the order of its data.
        callbacks: called with this trainer and the variant's module.
    """

    optimizer: torch.optim.Optimizer
    schedule: Any
    num_training_batches: int  # steps per epoch

    def __init__(
        self,
        name: str,
        module: LitAutoencoder,
        *,
        seed: int,
        folder: Path,
        logger: Logger,
        callbacks: Sequence[L.Callback],
        listener: Listener,
    ) -> None:
        self.name = name
        self.module = module
        self.folder = folder
        self.logger = logger
        self.callbacks = list(callbacks)
        self.listener = listener
        self.random = RandomStream()
        self.order = OrderStream(seed)
        self.global_step = 0
        self.first_step = 0  # in this process
        self.saved: tuple[int, Stage, int, bool] | None = None  # identifies its last state on disk
        self.device_before: str | None = None  # type of device before it was resumed
        self.seconds = 0.0  # training time up to the last state written
        self.validated_step = -1
        self.callback_metrics: dict[str, Tensor] = {}
        self.logged: MutableMapping[str, Any] = {}
        self.should_stop = False
        self.stopped = False
        self.failure: Exception | None = None
        self._has_validated = False  # in this process
        self._means: dict[str, tuple[Any, int]] | None = None
        self._restored: dict[str, Any] | None = None
        self._trainer: Any = None  # the array's, once training has begun
        self._step_hooks = {hook: self._overriding(hook) for hook in STEP_HOOKS}

    def __getattr__(self, name: str) -> Any:
        trainer = self.__dict__.get("_trainer")
        if trainer is None:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return getattr(trainer, name)

    @property
    def lightning_module(self) -> LitAutoencoder:
        """The variant's module."""
        return self.module

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The variant's optimizer."""
        return [self.optimizer]

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The variant's schedule, stepped at every step."""
        return [] if self.schedule is None else [LRSchedulerConfig(self.schedule, interval="step")]

    @property
    def loggers(self) -> list[Logger]:
        """The variant's logger."""
        return [self.logger]

    @property
    def default_root_dir(self) -> str:
        """The variant's folder, which callbacks compare with that of an earlier process."""
        return str(self.folder.resolve())

    @property
    def val_check_batch(self) -> Any:
        """Steps between validations."""
        every = self._trainer.val_check_batch
        return self.num_training_batches if every == self._trainer.num_training_batches else every

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Steps of the whole training."""
        return total_steps(self._trainer, self.num_training_batches) or self.num_training_batches  # schedules need one

    @property
    def active(self) -> bool:
        """Whether it still trains."""
        return not self.stopped and self.failure is None

    @property
    def has_step_hooks(self) -> bool:
        """Whether a callback, or the module itself, has a hook at every step."""
        return any(self._step_hooks.values())

    def attach(self, trainer: L.Trainer, steps_per_epoch: int) -> None:
        """Let the module and the callbacks see the variant's own trainer."""
        self._trainer = trainer
        self.num_training_batches = steps_per_epoch
        self.module.trainer = self  # type: ignore[assignment]
        # A function, not a method: a callback that copies the module would copy all of this with it.
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
        self.module.load_state_dict(state["weights"])  # callbacks may have changed those of the checkpoint
        (optimizer,) = checkpoint["optimizer_states"]
        for group, saved in zip(self.optimizer.param_groups, optimizer["param_groups"], strict=True):
            if "capturable" in group:
                saved["capturable"] = group["capturable"]  # as this device requires
        self.optimizer.load_state_dict(optimizer)
        for schedule in checkpoint["lr_schedulers"]:
            self.schedule.load_state_dict(schedule)

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
        """Return a checkpoint of this variant alone, with the additions of callbacks and module."""
        module = self.module
        checkpoint: dict[str, Any] = {
            "epoch": self.current_epoch,
            "global_step": self.global_step,
            "pytorch-lightning_version": L.__version__,
            "state_dict": module.state_dict(),
            module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
        }
        if not weights_only:
            checkpoint["callbacks"] = {each.state_key: state for each in self.callbacks if (state := each.state_dict())}
            checkpoint["optimizer_states"] = [self.optimizer.state_dict()]
            checkpoint["lr_schedulers"] = [] if self.schedule is None else [self.schedule.state_dict()]
            self.hook_callbacks("on_save_checkpoint", checkpoint)
        module.on_save_checkpoint(checkpoint)
        return checkpoint

    def save_checkpoint(self, filepath: str | Path, weights_only: bool | None = None) -> None:
        """Write a checkpoint of this variant alone, which `LitAutoencoder.load_from_checkpoint` loads."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        encoded = io.BytesIO()  # torch would hide the OSError of a full disk
        torch.save(self.dump_checkpoint(weights_only=bool(weights_only)), encoded)
        Path(filepath).write_bytes(encoded.getbuffer())

    def snapshot(self, stage: Stage) -> dict[str, Any]:
        """Return the whole state to resume from, as tensors and plain values."""
        at_end = stage is not Stage.STEP and self.global_step % max(self.num_training_batches, 1) == 0
        return {
            "step": self.global_step,
            "seconds": self.seconds,
            "validated_step": self.validated_step,
            "stopped": self.stopped,
            "should_stop": self.should_stop,
            "random": self.random.state_dict(),
            "order": self.order.place if at_end else self.order.start,
            "metrics": dict(self.callback_metrics),
            "logged": {name: torch.as_tensor(value) for name, value in self.logged.items()},
            "weights": self.module.state_dict(),
            "checkpoint": self.dump_checkpoint(),
            "callbacks": [each.state_dict() for each in self.callbacks],  # a list: two of a class have one key
            "device": self.strategy.root_device.type,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a `snapshot`; weights, optimizer and callbacks are loaded once the callbacks are set up."""
        self.random.load_state_dict(state["random"])
        self.order.resume_at(state["order"])
        self.callback_metrics, self.logged = dict(state["metrics"]), dict(state["logged"])
        self.device_before = state["device"]
        self.global_step = self.first_step = state["step"]
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
            getattr(callback, name)(self, self.module, *arguments)

    def fail(self, error: Exception | SystemExit) -> None:
        """Leave the array with an error."""
        if isinstance(error, SystemExit):  # raised inside its loss or model
            error = RuntimeError(f"it wanted to end the program with sys.exit({error.code})").with_traceback(
                error.__traceback__
            )
        traceback.clear_frames(error.__traceback__)  # frames hold the memory of a step
        self.failure = error
        for callback in self.callbacks:
            with suppress(Exception):
                callback.on_exception(self, self.module, error)  # type: ignore[arg-type]
        self.listener.failed(self.name, error)

    def wants_to_stop(self, epochs_done: int | None = None) -> bool:
        """Return whether a callback asked it to stop and the Trainer's `min_epochs` and `min_steps` allow it."""
        if not self.should_stop:
            return False
        epochs_done = self.current_epoch if epochs_done is None else epochs_done
        return epochs_done >= (self.min_epochs or 0) and self.global_step >= (self.min_steps or 0)

    def own_random_state(self) -> AbstractContextManager[None]:
        """Draw random numbers from its own state inside, if it draws any: the first step and validation find out."""
        looks = self.global_step == self.first_step or (self._means is not None and not self._has_validated)
        return self.random.own_random_state() if self.random.drawn or looks else nullcontext()

    def optimize(self, images: Tensor, *, look: bool) -> Tensor:
        """Take one optimizer step; returns the loss. The schedule is not stepped.

        Args:
            images: float `(B, 3, H, W)`.
            look: whether the host checks the loss before it is used.

        Raises:
            ValueError: if `look`, and the loss is not finite.
            OutOfMemory: if memory ran out before a weight was changed.
        """
        precision, optimizer = self.precision_plugin, self.optimizer
        try:
            images = precision.convert_input(images)
            with precision.forward_context():
                loss = self.module.training_step(images)
            shown = loss.detach()
            if look:
                self.check(shown.item(), self.global_step + 1)
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
        self.clip_gradients(optimizer)
        optimizer.step()
        return shown

    def train(self, images: Tensor, *, look: bool, rates: Sequence[float] | None = None) -> Tensor:
        """Take one whole step as Lightning's loop does, optionally at other learning rates; returns the loss."""
        batch_idx = self.global_step % max(self.num_training_batches, 1)
        with self.own_random_state():
            self._call("on_train_batch_start", images, batch_idx)
            with learning_rates(self.optimizer, rates):
                loss = self.optimize(images, look=look)
            if self.schedule is not None:
                self.schedule.step()
            self.global_step += 1
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
        """Pass the values that a step logged to the logger."""
        self.callback_metrics |= {name: torch.as_tensor(value) for name, value in values.items()}
        numbers = {name: float(value) for name, value in values.items()}
        self.logger.log_metrics({**numbers, "epoch": self.current_epoch}, step=step)

    def log(self, name: str, value: Any, *_: Any, batch_size: int | None = None, **__: Any) -> None:
        """Stand in for `LightningModule.log`: the value of a step, or in validation the mean over images."""
        value = value.detach() if isinstance(value, Tensor) else value
        if self._means is None:
            self.logged[name] = value
        else:
            total, count = self._means.get(name, (0.0, 0))
            self._means[name] = (total + value * (batch_size or 1), count + (batch_size or 1))

    def begin_validation(self) -> None:
        """Let `log` take means from here on."""
        self._means = {}

    def end_validation(self) -> None:
        """Store the means as metrics, and pass them to the logger."""
        assert self._means is not None
        means, self._means, self._has_validated = self._means, None, True
        self.validated_step = self.global_step
        self.write_log({name: total / count for name, (total, count) in means.items()}, self.global_step)

    def _call(self, name: str, *arguments: Any) -> None:
        for function in self._step_hooks[name]:
            function(*arguments)

    def _overriding(self, name: str) -> list[Callable[..., Any]]:
        """List the hooks of that name that the callbacks, and then the module, override."""

        def bound(callback: L.Callback) -> Callable[..., Any]:
            return lambda *arguments: getattr(callback, name)(self, self.module, *arguments)

        own = [bound(each) for each in self.callbacks if getattr(type(each), name) is not getattr(L.Callback, name)]
        if getattr(type(self.module), name) is not getattr(L.LightningModule, name):
            own.append(getattr(self.module, name))
        return own


def total_steps(trainer: L.Trainer, steps_per_epoch: int) -> int | float:
    """Return the optimizer steps of the whole training; infinity if it has no end."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    limits = [] if steps == -1 else [steps]
    if epochs is not None and epochs != -1:
        limits.append(steps_per_epoch * epochs)
    return min(limits, default=float("inf"))
