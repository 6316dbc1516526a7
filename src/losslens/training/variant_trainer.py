"""A variant in training: its parts, its steps, its log, and the Trainer that its callbacks see."""

import io
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor

from losslens.data.store import OrderStream
from losslens.training.listener import Listener
from losslens.training.module import MONITORED, LitAutoencoder
from losslens.training.random_stream import RandomStream
from losslens.training.rates import learning_rates
from losslens.training.stop import OutOfMemory, is_out_of_memory
from losslens.training.supported import overrides
from losslens.training.views import SHARED, View, constant, refusal

# Hooks that a callback or module may have at every step, in the order of Lightning's automatic optimization.
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


# What a callback finds of its own under the name of an attribute of the Trainer, and may set or this file sets.
OWN = frozenset(("should_stop", "global_step", "callback_metrics", "num_training_batches"))
SHARED_BY_STRATEGY = (
    *("root_device", "global_rank", "local_rank", "world_size", "is_global_zero", "barrier", "broadcast", "reduce"),
    *("reduce_boolean_decision", "all_gather", "batch_to_device", "remove_checkpoint", "precision_plugin"),
)


class Stage(IntEnum):
    """Stage that a member has reached after its latest step."""

    STEP = 0  # nothing after it
    EPOCH = 1  # all that comes at the end of an epoch, validation for instance
    END = 2  # all that comes at the end of training


class VariantTrainer:
    """A variant in training; its callbacks and its module see it as the Trainer of this variant alone.

    It holds module, optimizer, schedule, random streams and callbacks. Of the array's `lightning.Trainer`, which its
    neighbors share, it shows settings (`SHARED`) and views; nothing else can be reached or set. Make it right after the
    module, when the global random state is that in which training alone would start.

    Args:
        seed: of the order of its data.
        callbacks: called with this trainer and the variant's module.
    """

    optimizer: torch.optim.Optimizer
    schedule: Any  # stepped at every step
    plateau: Any  # a schedule that is stepped at every validation
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
        self.callbacks = tuple(callbacks)
        self.listener = listener
        self.random = RandomStream()
        self.order = OrderStream(seed)
        self.global_step = 0
        self.first_step = 0  # in this process
        self.saved: tuple[int, Stage, int, bool] | None = None  # identifies its last state on disk
        self.began_with = 0  # variants in the array that began its training; 0: not known yet
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
        self._aside: dict[str, Any] | None = None  # what is logged in a hook that is neither of a step nor a validation
        self._restored: dict[str, Any] | None = None
        self._trainer: Any = None  # the array's, once training has begun
        self._num_logged = 0  # batches after which Lightning would log; it counts late
        self._batch = 0  # index of the latest batch, of training or of a validation
        self._last_epoch: int | None = None  # at which it ended, once it has stopped
        self._step_hooks = {hook: self._overriding(hook) for hook in STEP_HOOKS}

    def __getattr__(self, name: str) -> Any:
        trainer = self.__dict__.get("_trainer")
        if trainer is None:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        if name in SHARED:
            return getattr(trainer, name)
        if name.startswith("__") or not _is_of(trainer, name):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        raise refusal(f"trainer.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        if name not in OWN and (trainer := self.__dict__.get("_trainer")) is not None and _is_of(trainer, name):
            raise refusal(f"trainer.{name}")
        object.__setattr__(self, name, value)

    @property
    def lightning_module(self) -> LitAutoencoder:
        """The variant's module."""
        return self.module

    @property
    def model(self) -> LitAutoencoder:
        """The variant's module."""
        return self.module

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """The variant's optimizer."""
        return (self.optimizer,)

    @property
    def lr_scheduler_configs(self) -> tuple[LRSchedulerConfig, ...]:
        """The variant's schedule, stepped at every step, or at validations if it waits for a plateau."""
        if self.plateau is not None:
            return (LRSchedulerConfig(self.plateau, monitor=MONITORED, reduce_on_plateau=True),)
        return () if self.schedule is None else (LRSchedulerConfig(self.schedule, interval="step"),)

    @property
    def loggers(self) -> tuple[Logger, ...]:
        """The variant's logger."""
        return (self.logger,)

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """The latest values of what the variant logged."""
        return dict(self.callback_metrics)

    @property
    def default_root_dir(self) -> str:
        """The variant's folder, which callbacks compare with that of an earlier process."""
        return str(self.folder.resolve())

    @property
    def log_dir(self) -> str:
        """The variant's folder."""
        return self.default_root_dir

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """The variant's callbacks that write checkpoints."""
        return [each for each in self.callbacks if isinstance(each, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first of them."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """The variant's callbacks that stop it early."""
        return [each for each in self.callbacks if isinstance(each, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first of them."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def current_epoch(self) -> int:
        """The epoch; once it has stopped, at most the one at which it ended, while its neighbors go on."""
        epoch = int(self._trainer.current_epoch)
        return epoch if self._last_epoch is None else min(epoch, self._last_epoch)

    @property
    def is_last_batch(self) -> bool:
        """Whether the batch is the last one of the epoch."""
        return self._batch + 1 >= self.num_training_batches

    @property
    def gradient_clip_val(self) -> float | None:
        """The threshold of gradient clipping."""
        return self._trainer.lightning_module.clip[0] or None

    @property
    def gradient_clip_algorithm(self) -> GradClipAlgorithmType | None:
        """The algorithm of gradient clipping."""
        most, algorithm = self._trainer.lightning_module.clip
        return algorithm if most else None

    @property
    def state(self) -> Any:
        """A copy of the Trainer's state: what it does, and in which stage."""
        return copy(self._trainer.state)

    @property
    def val_dataloaders(self) -> Any:
        """The validation images, in batches."""
        return self._trainer.datamodule.val_dataloader()

    @property
    def datamodule(self) -> Any:
        """The data, of which a callback can read the validation images."""
        data = self._trainer.datamodule
        return View(
            "trainer.datamodule",
            {"val_dataloader": constant(data.val_dataloader), "batch_size": constant(data.batch_size)},
        )

    @property
    def strategy(self) -> Any:
        """The device, and what callbacks ask where there may be several processes."""
        shared = self._trainer.strategy
        shown = {name: partial(getattr, shared, name) for name in SHARED_BY_STRATEGY}
        own = {"model": constant(self.module), "lightning_module": constant(self.module)}
        return View("trainer.strategy", {**shown, **own, "optimizers": lambda: self.optimizers})

    @property
    def fit_loop(self) -> Any:
        """The place in training, as Lightning's callbacks ask for it."""
        has_validated = View("trainer.fit_loop.epoch_loop.val_loop", {"_has_run": lambda: self.validated_step >= 0})
        progress = View("trainer.fit_loop.epoch_loop.batch_progress", {"is_last_batch": lambda: self.is_last_batch})
        place = {
            "batch_idx": lambda: self._batch,
            "total_batch_idx": lambda: self._num_logged,
            "max_steps": lambda: self.max_steps,
            "min_steps": lambda: self.min_steps,
        }
        steps = {
            **place,
            "global_step": lambda: self.global_step,
            "_batches_that_stepped": lambda: self._num_logged,
            "batch_progress": constant(progress),
            "val_loop": constant(has_validated),
        }
        epochs = {"max_epochs": lambda: self.max_epochs, "min_epochs": lambda: self.min_epochs}
        return View(
            "trainer.fit_loop",
            {**place, **epochs, "epoch_loop": constant(View("trainer.fit_loop.epoch_loop", steps))},
        )

    @property
    def _logger_connector(self) -> Any:
        """Whether to log at this batch, as Lightning's callbacks ask for it."""
        return View("trainer._logger_connector", {"should_update_logs": lambda: self._logs_now})

    @property
    def _logs_now(self) -> bool:
        every = self.log_every_n_steps
        place = self._num_logged if self._means is None else self._batch
        return bool(every) and ((place + 1) % every == 0 or self.should_stop)

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
        self.num_training_batches = steps_per_epoch
        self._trainer = trainer
        self.module.trainer = self  # type: ignore[assignment]
        # A function, not a method: a callback that copies the module would copy all of this with it.
        object.__setattr__(self.module, "log", lambda *args, **kwargs: self.log(*args, **kwargs))
        for callback in self.callbacks:
            callback.log, callback.log_dict = self.module.log, self.module.log_dict  # type: ignore[attr-defined]

    def configure(self) -> None:
        """Make the optimizer and the schedule."""
        made: Any = self.module.configure_optimizers()
        self.optimizer = made["optimizer"] if isinstance(made, dict) else made
        plan = made["lr_scheduler"] if isinstance(made, dict) else {"scheduler": None}
        self.schedule, self.plateau = plan["scheduler"], None
        if "monitor" in plan:
            self.schedule, self.plateau = None, plan["scheduler"]
        for group in self.optimizer.param_groups:
            if "capturable" in group and self.module.device.type == "cuda":
                group["capturable"] = True  # its count of steps lives on the device
        if self._restored is not None:
            self._load_weights(self._restored)

    def load_progress(self) -> None:
        """Load the states of optimizer and schedule, once callbacks may have given the optimizer more groups.

        What callbacks froze or thawed is as it was; Lightning would freeze it anew.
        """
        if self._restored is None:
            return
        checkpoint, trained, self._restored = self._restored["checkpoint"], self._restored.get("trained"), None
        for weight, is_trained in zip(self.module.parameters(), trained or [], strict=False):
            weight.requires_grad_(is_trained)
        (optimizer,) = checkpoint["optimizer_states"]
        for group, saved in zip(self.optimizer.param_groups, optimizer["param_groups"], strict=True):
            if "capturable" in group:
                saved["capturable"] = group["capturable"]  # as this device requires
        self.optimizer.load_state_dict(optimizer)
        for schedule, saved in zip(self._schedules, checkpoint["lr_schedulers"], strict=True):
            schedule.load_state_dict(saved)

    def _load_weights(self, state: dict[str, Any]) -> None:
        """Load weights and callbacks, in Lightning's order."""
        checkpoint = state["checkpoint"]
        self.module.on_load_checkpoint(checkpoint)
        self.module.load_state_dict(checkpoint["state_dict"], strict=self.module.strict_loading)
        self.hook_callbacks("on_load_checkpoint", checkpoint)
        for callback, own in zip(self.callbacks, state["callbacks"], strict=True):
            if own:
                callback.load_state_dict(own)
        self.module.load_state_dict(state["weights"])  # callbacks may have changed those of the checkpoint

    @property
    def _schedules(self) -> list[Any]:
        return [each for each in (self.schedule, self.plateau) if each is not None]

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
            checkpoint["lr_schedulers"] = [each.state_dict() for each in self._schedules]
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
            "last_epoch": self._last_epoch,
            "should_stop": self.should_stop,
            "random": self.random.state_dict(),
            "order": self.order.place if at_end else self.order.start,
            "metrics": dict(self.callback_metrics),
            "logged": {name: torch.as_tensor(value) for name, value in self.logged.items()},
            "weights": self.module.state_dict(),
            "trained": [weight.requires_grad for weight in self.module.parameters()],  # the others are frozen
            "checkpoint": self.dump_checkpoint(),
            "callbacks": [each.state_dict() for each in self.callbacks],  # a list: two of a class have one key
            "device": self.strategy.root_device.type,
            "began_with": self.began_with,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a `snapshot`; weights, optimizer and callbacks are loaded once the callbacks are set up."""
        self.random.load_state_dict(state["random"])
        self.order.resume_at(state["order"])
        self.callback_metrics, self.logged = dict(state["metrics"]), dict(state["logged"])
        self.device_before = state["device"]
        self.began_with = state.get("began_with", 0)  # states of before version 0.2 do not say it
        self.global_step = self.first_step = state["step"]
        self.seconds = state["seconds"]
        self.validated_step = state["validated_step"]
        self.stopped, self.should_stop = state["stopped"], state["should_stop"]
        self._last_epoch = state.get("last_epoch")
        self._restored = state

    def hook(self, name: str, *arguments: Any) -> None:
        """Call a hook of the callbacks, then of the module; what they log is logged at once."""
        if name.startswith("on_train_epoch"):
            self._num_logged = self.global_step
        self._aside = {}
        try:
            self.hook_callbacks(name, *arguments)
            getattr(self.module, name)(*arguments)
        finally:
            logged, self._aside = self._aside, None
        if logged:
            self.write_log(logged, self.global_step)

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
        batch_idx = self._batch = self.global_step % max(self.num_training_batches, 1)
        self._num_logged = self.global_step
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

    def log_if_due(self, values: MutableMapping[str, Any]) -> None:
        """Pass what the latest step logged to the logger, every `log_every_n_steps` steps."""
        if self.log_every_n_steps and self.global_step % self.log_every_n_steps == 0:
            self.write_log(values, self.global_step)

    def write_log(self, values: MutableMapping[str, Any], step: int) -> None:
        """Pass the values that a step logged to the logger."""
        self.callback_metrics.update({name: torch.as_tensor(value) for name, value in values.items()})
        numbers = {name: float(value) for name, value in values.items()}
        self.logger.log_metrics({**numbers, "epoch": self.current_epoch}, step=step)

    def log(self, name: str, value: Any, *_: Any, batch_size: int | None = None, **__: Any) -> None:
        """Stand in for `LightningModule.log`: the value of a step, or in validation the mean over images."""
        value = value.detach() if isinstance(value, Tensor) else value
        if self._means is not None:
            total, count = self._means.get(name, (0.0, 0))
            self._means[name] = (total + value * (batch_size or 1), count + (batch_size or 1))
        elif self._aside is not None:
            self._aside[name] = value
            self.callback_metrics[name] = torch.as_tensor(value)  # for callbacks that are called after this one
        else:
            self.logged[name] = value

    def begin_validation(self) -> None:
        """Let `log` take means from here on."""
        self._means = {}
        self._num_logged = max(self.global_step - 1, 0)

    def leave(self, last_epoch: int) -> None:
        """Train no further; alone, its Trainer would end at that epoch."""
        if not self.stopped:
            self.stopped, self._last_epoch = True, last_epoch

    def validate(self, images: Tensor, batch_idx: int) -> None:
        """Validate a batch of images `(N, 3, H, W)`."""
        self._batch = batch_idx
        self.hook_callbacks("on_validation_batch_start", images, batch_idx)
        self.module.validation_step(images)
        self.hook_callbacks("on_validation_batch_end", None, images, batch_idx)

    def end_validation(self) -> None:
        """Store the means as metrics, and pass them to the logger."""
        assert self._means is not None
        means, self._means, self._has_validated = self._means, None, True
        self.validated_step = self.global_step
        self.write_log({name: total / count for name, (total, count) in means.items()}, self.global_step)
        if self.plateau is not None:
            self.plateau.step(self.callback_metrics[MONITORED])

    def _call(self, name: str, *arguments: Any) -> None:
        for function in self._step_hooks[name]:
            function(*arguments)

    def _overriding(self, name: str) -> list[Callable[..., Any]]:
        """List the hooks of that name that the callbacks, and then the module, override."""

        def bound(callback: L.Callback) -> Callable[..., Any]:
            return lambda *arguments: getattr(callback, name)(self, self.module, *arguments)

        own = [bound(each) for each in self.callbacks if overrides(each, name)]
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


def _is_of(trainer: L.Trainer, name: str) -> bool:
    """Return whether a Trainer has an attribute of that name."""
    return name in vars(trainer) or hasattr(type(trainer), name)
