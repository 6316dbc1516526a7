"""Make the Trainer of an array from a variant's settings."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import GradClipAlgorithmType

from losslens.build import build
from losslens.data.datamodule import ArrayDataModule, full_batches
from losslens.training.state import SavedState
from losslens.training.supported import REFUSED_SETTINGS, check_trainer, counts_steps
from losslens.training.variant_trainer import Stage
from losslens.variant import VariantConfig

BF16_PARAMETERS = 200_000  # below this, as in model=small, casts take longer than bf16 saves
VALIDATIONS = 4  # in a training that counts steps


def trainer_settings(config: VariantConfig) -> dict[str, Any]:
    """Return the Trainer's settings of a variant's configuration, with `precision: auto` resolved.

    That is bf16 for large models on a GPU that supports it: in smaller ones casts take longer than bf16 saves.
    """
    settings = dict(config["trainer"])
    if settings.get("precision") == "auto":
        has_bf16 = on_gpus(settings) and torch.cuda.is_bf16_supported(False)
        is_large = has_bf16 and _num_parameters(json.dumps(config["model"])) >= BF16_PARAMETERS
        settings["precision"] = "bf16-mixed" if is_large else "32-true"
    return settings


@cache
def _num_parameters(model: str) -> int:
    """Count the parameters of a network, whose configuration is given as JSON; 0 if it cannot be made."""
    for device in ("meta", "cpu"):  # some networks cannot be made on the meta device
        with torch.device(device), suppress(Exception):  # the error is reported when it is made for training
            return sum(parameter.numel() for parameter in build(json.loads(model)).parameters())
    return 0


def make_trainer(config: Mapping[str, Any], folder: Path, callbacks: list[L.Callback]) -> L.Trainer:
    """Make the Trainer of an array: quiet, and without the parts that each member has of its own.

    Args:
        config: as `trainer_settings` returns them: `_target_` and arguments of `lightning.Trainer`. Callbacks, clipping
            and the limit of training steps are the members' and the data's.
        folder: where a profiler writes.

    Raises:
        ValueError: if an array cannot be trained that way.
    """
    check_trainer(config)
    check_accelerator(config)
    config = {**config, "accelerator": "gpu" if on_gpus(config) else "cpu"}
    if config["accelerator"] == "gpu":  # cuBLAS reads it once, and a later array may be deterministic
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if counts_steps(config):  # an epoch is what lies between two validations, see epoch_steps
        config = {**config, "max_epochs": -1, "val_check_interval": None, "check_val_every_n_epoch": 1}
    mine = ("callbacks", "limit_train_batches", "gradient_clip_val", "gradient_clip_algorithm", *REFUSED_SETTINGS)
    config = {key: value for key, value in config.items() if key not in mine}
    trainer: L.Trainer = build(
        {"enable_progress_bar": False, "enable_model_summary": False, **config},
        callbacks=callbacks,
        # An array is one process also inside a Slurm job; srun is not needed.
        plugins=[LightningEnvironment()],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # a thread has its own, so that what a loss may do would depend on their number
    )
    # A sweep handles signals itself; Lightning would abort a validation, or requeue a Slurm job.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if trainer.world_size > 1:
        raise ValueError(f"variants train on one device, not {trainer.world_size}: use trainer.devices=1")
    return trainer


@contextmanager
def determinism_as_before() -> Iterator[None]:
    """Restore the global settings that the Trainer's `deterministic` changes."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def on_gpus(settings: Mapping[str, Any]) -> bool:
    """Return whether a Trainer's settings choose GPUs on this machine."""
    return settings.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def check_accelerator(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError if a Trainer's settings choose a device that is not supported or not on this machine."""
    wanted = settings.get("accelerator", "auto")
    if wanted not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={wanted}: variants train on CUDA GPUs and on the CPU: use trainer=auto")
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={wanted}, and PyTorch sees no CUDA GPU here: use trainer=auto, or another machine"
        )


def epoch_steps(config: Mapping[str, Any], count: int, batch_size: int) -> int:
    """Return the steps of the Trainer's epoch.

    If steps are counted, those between two validations, so that the size of the data set does not matter: a quarter of
    all unless `val_check_interval` is set. Else the number of full batches, up to `limit_train_batches`.

    Args:
        count: of training images.
        batch_size: images per step.

    Raises:
        ValueError: if steps are counted and the interval is not a number of them; or if an epoch has no step.
    """
    if counts_steps(config):
        steps, interval = config["max_steps"], config.get("val_check_interval")
        if interval is not None and not (isinstance(interval, int) and interval > 0):
            raise ValueError(
                f"trainer.val_check_interval {interval} is no number of steps: give one, or null for a quarter of all, "
                "or count epochs with trainer.max_epochs"
            )
        return int(min(interval or -(-steps // VALIDATIONS), steps))
    steps, limit = full_batches(count, batch_size), config.get("limit_train_batches")
    return steps if limit is None else min(limit, steps) if isinstance(limit, int) else int(limit * steps)


def clipping(config: Mapping[str, Any]) -> tuple[float, GradClipAlgorithmType]:
    """Return the threshold of gradient clipping, 0 for none, and the algorithm."""
    algorithm = GradClipAlgorithmType(config.get("gradient_clip_algorithm") or "norm")
    return float(config.get("gradient_clip_val") or 0), algorithm


def resume_at(trainer: L.Trainer, data: ArrayDataModule, state: SavedState, seconds: float) -> None:
    """Let a new Trainer resume at the beginning of the epoch in which a state was written.

    The array skips the steps of that epoch that were taken; its order is drawn again from the members' states.

    Args:
        seconds: of training so far, which count against the Trainer's `max_time`.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer):
            callback.load_state_dict({"time_elapsed": {RunningStage.TRAINING.value: seconds}})
    epoch = state.step // max(data.num_steps, 1)
    if state.stage is Stage.STEP and epoch * data.num_steps == state.step:
        epoch -= 1  # all its steps were taken, but its end is still to come
    data.passed = state.step - epoch * data.num_steps
    loop = trainer.fit_loop
    for tracker, count in (
        (loop.epoch_progress.current, epoch),
        (loop.epoch_progress.total, epoch),
        (loop.epoch_loop.batch_progress.total, epoch * len(data.train_dataloader())),
    ):
        tracker.load_state_dict(dict.fromkeys(("ready", "started", "processed", "completed"), count))
    steps = loop.epoch_loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = epoch * data.num_steps
