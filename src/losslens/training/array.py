"""Train many variants in lockstep under one Trainer, each as if it were alone."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn

from losslens.data.store import Chunk
from losslens.training.cpu import ThreadEngine
from losslens.training.cuda import GraphEngine
from losslens.training.listener import Listener
from losslens.training.state import SaveInterval, save_state
from losslens.training.stop import Interrupted
from losslens.training.variant_trainer import Stage, VariantTrainer

PATIENCE = 2.0  # seconds that a validation may still take after a request to stop
LEAST_SHARE = 50  # seconds of training per second of saving: even large states take at most 2% of the time


class VariantArray(L.LightningModule):
    """Train variants together: what each learns does not depend on the others.

    A batch of the Trainer is a `Chunk` of many steps, with a row for each member. Lightning's hooks are called for
    every member, with a trainer of its own. A member that fails, or is stopped by a callback, leaves; the others
    continue unchanged.

    Args:
        num_workers: on the CPU, variants that compute at once.
        num_threads: on the CPU, PyTorch's threads per variant.
        clip: threshold of gradient clipping, 0 for none, and the algorithm.
        listener: once its `stop` is requested, states are written, and `Interrupted` is raised.
        stage: of the states from which the members resume.
    """

    def __init__(
        self,
        members: Sequence[VariantTrainer],
        *,
        num_workers: int,
        num_threads: int,
        clip: tuple[float, GradClipAlgorithmType],
        listener: Listener,
        save_interval: SaveInterval,
        stage: Stage = Stage.STEP,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members = list(members)
        self.variants = nn.ModuleList(member.module for member in members)
        self.num_workers = num_workers
        self.num_threads = num_threads
        self.clip = clip
        self.say = listener.say
        self.save_interval = save_interval
        self.stop = listener.stop
        self.first_step = members[0].first_step  # the same for all members
        self.first_stage = stage
        self.has_ended = stage is Stage.END
        self._saved_step = self.first_step
        self._saved_time = time.monotonic()
        self._saving_seconds = 0.0
        self._validation_seconds = float("inf")  # duration of the last one; unknown before the first

    def setup(self, stage: str) -> None:
        """Give every member its trainer."""
        if stage == "fit":
            for member in self.members:
                member.attach(self.trainer, self.trainer.datamodule.num_steps)  # type: ignore[attr-defined]
        self._hook("setup", stage)

    def configure_optimizers(self) -> Any:
        """Make every member's optimizer and schedule; the members step them."""
        device = self.trainer.strategy.root_device.type
        if any(member.device_before not in (None, device) for member in self.members):
            self.say(f"goes on on another kind of device, {device}: last digits will be others")
        self._call_each(VariantTrainer.configure)
        return [member.optimizer for member in self.members if member.failure is None]

    def on_fit_start(self) -> None:
        """Start the engine."""
        self._start_engine()
        self._hook("on_fit_start")
        self._call_each(VariantTrainer.load_progress)
        if self.has_ended:
            self._end_training()

    def on_train_start(self) -> None:
        """Call the hook of all members."""
        self._hook("on_train_start")
        self._let_go(self.trainer.current_epoch, self.trainer.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Call the hook of all members that train, except in an epoch that is resumed midway."""
        if self.trainer.global_step >= self.first_step:
            self._hook("on_train_epoch_start", training=True)

    def training_step(self, batch: Chunk, batch_idx: int) -> None:
        """Take a chunk of steps with all members that train."""
        num_steps = batch.num_steps
        if self.trainer.max_steps != -1:
            num_steps = min(num_steps, self.trainer.max_steps - self.trainer.global_step)
        # The steps of this epoch that were taken before it was resumed are skipped.
        passed = min(num_steps, max(0, self.first_step - self.trainer.global_step))
        if passed < num_steps:
            # The Trainer's autocast is around all of this; a member's is around its forward pass alone.
            with torch.autocast(self.trainer.strategy.root_device.type, enabled=False):
                self.engine.run_steps(self.members, batch.steps(passed, num_steps), self.stop)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for _ in range(num_steps):  # advances the Trainer's global_step
            progress.increment_ready()
            progress.increment_completed()
        self._let_go()
        if passed < num_steps:
            self._save_if_due(Stage.STEP)

    def on_train_epoch_end(self) -> None:
        """Call the hook of all members that train, except at the end of an epoch at which they were resumed."""
        if self.first_stage is Stage.STEP or self.trainer.global_step > self.first_step:
            self._hook("on_train_epoch_end", training=True)
        self._let_go(epochs_done=self.trainer.current_epoch + 1)
        self._save_if_due(Stage.EPOCH)

    def on_validation_start(self) -> None:
        """Select the members that have trained since their last validation."""
        if self.trainer.state.fn == "validate":
            self._start_engine()
        step = self.trainer.global_step if self.trainer.state.fn == "fit" else self.first_step
        ready = [each for each in self.members if each.failure is None and step >= self.first_step]
        self.validated = [each for each in ready if each.validated_step != each.global_step]
        if self.validated and self._validation_seconds > PATIENCE:  # so that it can be aborted
            self.save(Stage.END if self.has_ended else Stage.STEP)
        self._validation_started = time.monotonic()
        self._call_each(VariantTrainer.begin_validation, self.validated)
        self._validation_hook("on_validation_start")

    def on_validation_epoch_start(self) -> None:
        """Call the hook of the validated members."""
        self._validation_hook("on_validation_epoch_start")

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Validate a batch of images `(N, 3, H, W)` with all members at once.

        Raises:
            Interrupted: if it was asked to stop, and the states from before this validation are on disk.
        """
        if self.stop and self._validation_seconds > PATIENCE:
            raise Interrupted

        def validate(member: VariantTrainer) -> None:
            precision = member.precision_plugin
            with torch.no_grad(), precision.forward_context(), member.own_random_state():
                member.validate(batch.clone(), batch_idx)  # a model or callback that changes it changes its own

        self.engine.call_each([member for member in self.validated if member.failure is None], validate)

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the validated members."""
        if all(member in self.validated for member in self.members if member.active):
            self._validation_seconds = time.monotonic() - self._validation_started
        self._validation_hook("on_validation_epoch_end")
        self._call_each(VariantTrainer.end_validation, self.validated)

    def on_validation_end(self) -> None:
        """Call the hook of the validated members, in parallel, since it draws pictures."""

        def end(member: VariantTrainer) -> None:
            with torch.no_grad(), member.own_random_state():
                member.hook("on_validation_end")

        # The default dtype, which some precisions change, is shared by all threads: it is changed around them all.
        with self.trainer.precision_plugin.forward_context():
            self.engine.call_each([member for member in self.validated if member.failure is None], end, on_host=True)
        if self.trainer.state.fn == "fit":
            self._let_go()
        else:
            self.engine.close()

    def on_train_end(self) -> None:
        """Call the hook of all members."""
        self.has_ended = True
        self._hook("on_train_end")

    def on_fit_end(self) -> None:
        """Call the hook of all members and end the engine."""
        if not self.has_ended:  # the Trainer skips training that had ended already, or whose time was over
            self.on_train_start()
            self.on_train_end()
        self._hook("on_fit_end")
        self.engine.close()

    def teardown(self, stage: str) -> None:
        """Call the hook of all members."""
        self._hook("teardown", stage)

    def _save_if_due(self, stage: Stage) -> None:
        """Write states if it is time; if training is to stop, write them and raise `Interrupted`."""
        steps = max(member.global_step for member in self.members) - self._saved_step
        seconds = max(self.save_interval.seconds, LEAST_SHARE * self._saving_seconds)
        if self.stop or time.monotonic() - self._saved_time >= seconds or steps >= self.save_interval.steps:
            self.save(stage)
        if self.stop:
            raise Interrupted

    def save(self, stage: Stage) -> None:
        """Write the states of all members that have not failed."""
        now, written = time.monotonic(), False
        for member in self.members:
            if member.failure is None:
                member.seconds += now - self._saved_time
                try:
                    written |= save_state(member, stage)
                except OSError:
                    raise
                except Exception as error:  # a callback whose state cannot be saved, for instance
                    member.fail(error)
        self._saved_step, self._saved_time = max(member.global_step for member in self.members), time.monotonic()
        if written:
            self._saving_seconds = self._saved_time - now

    def _start_engine(self) -> None:
        device = self.trainer.strategy.root_device
        self.engine: ThreadEngine | GraphEngine = (
            GraphEngine(device, self.say)
            if device.type == "cuda"
            else ThreadEngine(self.num_workers, self.num_threads, self.say)
        )

    def _call_each(
        self, function: Callable[[VariantTrainer], Any], members: Sequence[VariantTrainer] | None = None
    ) -> None:
        """Call a function for all members that have not failed, one after another; an error fails its member."""
        for member in self.members if members is None else members:
            if member.failure is None:
                try:
                    function(member)
                except (Exception, SystemExit) as error:
                    member.fail(error)

    def _hook(self, name: str, *arguments: Any, training: bool = False) -> None:
        members = [member for member in self.members if member.active or not training]
        self._call_hook(members, name, *arguments)

    def _validation_hook(self, name: str) -> None:
        self._call_hook(self.validated, name)

    def _call_hook(self, members: Sequence[VariantTrainer], name: str, *arguments: Any) -> None:
        def call(member: VariantTrainer) -> None:
            with member.random.own_random_state():
                member.hook(name, *arguments)

        self._call_each(call, members)

    def _let_go(self, epochs_done: int | None = None, last_epoch: int | None = None) -> None:
        """Let members leave that are to stop, and end training when none is left.

        Args:
            last_epoch: at which a Trainer that stops here would end; None: the next one.
        """
        for member in self.members:
            if member.wants_to_stop(epochs_done):
                member.leave(self.trainer.current_epoch + 1 if last_epoch is None else last_epoch)
        if not any(member.active for member in self.members):
            self._end_training()

    def _end_training(self) -> None:
        self.trainer.should_stop = True
        self.trainer.fit_loop.min_epochs = None
        self.trainer.fit_loop.epoch_loop.min_steps = None
