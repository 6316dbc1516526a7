"""What of Lightning variants can use: settings of the Trainer, and callbacks; the rest is refused at the start.

docs/callbacks.md is the table for users.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_object
from lightning.pytorch import callbacks as of_lightning
from lightning.pytorch.utilities import GradClipAlgorithmType

from losslens.build import build

# Settings of the Trainer that would be without effect, or that variants cannot have: the values that change nothing,
# and what to do instead.
REFUSED_SETTINGS: dict[str, tuple[tuple[Any, ...], str]] = {
    "logger": (
        (None, True),
        "every variant writes TensorBoard's events and metrics.csv: leave it out, and log elsewhere with a callback",
    ),
    "plugins": ((None, []), "an array runs in one process on one device: leave it out"),
    "num_nodes": ((None, 1), "a variant trains on one device: docs/scaling.md says how many machines share a sweep"),
    "sync_batchnorm": ((None, False), "a variant trains on one device: leave it out"),
    "use_distributed_sampler": ((None, True), "a variant trains on one device: leave it out"),
    "accumulate_grad_batches": (
        (None, 1),
        "gradients are not accumulated over batches: use a larger data.batch_size",
    ),
    "overfit_batches": ((None, 0), "use few images instead: a small data.train_size, or a small folder"),
    "limit_test_batches": ((None,), "a sweep has no test: leave it out; trainer.limit_val_batches limits validation"),
    "limit_predict_batches": ((None,), "a sweep makes no predictions: leave it out"),
    "num_sanity_val_steps": ((None, 0), "variants are checked before they train: leave it out"),
    "enable_checkpointing": ((None, True), "checkpoints are what a sweep resumes from and is read from: leave it out"),
    "barebones": ((None, False), "a sweep needs validations and results: leave it out"),
    "reload_dataloaders_every_n_epochs": ((None, 0), "the data stay the same for a whole sweep: leave it out"),
    "default_root_dir": ((None,), "folders are named with sweep=NAME or hydra.run.dir=FOLDER"),
    "enable_autolog_hparams": ((None, True), "what variants differ in is in TensorBoard's HParams tab: leave it out"),
    "model_registry": ((None,), "variants are not uploaded: leave it out"),
}

# Callbacks of Lightning, and with them their subclasses, that would be without effect or reach beyond their variant.
REFUSED_CALLBACKS: dict[type[L.Callback], str] = {
    of_lightning.BackboneFinetuning: "an autoencoder has no backbone: derive a class from BaseFinetuning instead, "
    "whose freeze_before_training and finetune_function say which weights",
    of_lightning.BasePredictionWriter: "a sweep makes no predictions: use python reconstruct.py",
    of_lightning.BatchSizeFinder: "variants share the device: set data.batch_size; array.max_variants=auto lets as "
    "many train at once as fit into memory",
    of_lightning.GradientAccumulationScheduler: "gradients are not accumulated over batches: use a larger "
    "data.batch_size",
    of_lightning.LearningRateFinder: "variants train in lockstep: try rates side by side with "
    "-m optimizer.lr=0.003,0.01,0.03, or search with hydra/sweeper=optuna",
    of_lightning.ModelPruning: "it renames weights, so that no state can be resumed: prune what losslens.load_variant "
    "returns, with torch.nn.utils.prune",
    of_lightning.OnExceptionCheckpoint: "states are written every checkpoint.every=60s, and resume=FOLDER "
    "retry_failed=true resumes from the last one: leave it out",
    of_lightning.ProgressBar: "one bar shows the whole sweep: leave it out, or use +trainer.enable_progress_bar=true "
    "for one of each array",
    of_lightning.SpikeDetection: "its state cannot be loaded again, by a defect of Lightning 2.6: use EarlyStopping "
    "with divergence_threshold",
    of_lightning.StochasticWeightAveraging: "it changes the loops of the Trainer, which variants share: use "
    "WeightAveraging or EMAWeightAveraging of lightning.pytorch.callbacks",
    of_lightning.ThroughputMonitor: "variants share the device, so that it would measure its neighbors, too: "
    "metrics.json has the seconds, and +trainer.profiler=simple a profile",
}

CALLED = (
    *("setup", "teardown", "on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start"),
    *("on_train_epoch_end", "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_end"),
    *("on_validation_epoch_start", "on_validation_epoch_end", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_exception"),
    *("state_dict", "load_state_dict", "on_save_checkpoint", "on_load_checkpoint"),
)
NEVER_CALLED = tuple(name for name in dir(L.Callback) if name.startswith("on_") and name not in CALLED)


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Check that variants can have a Trainer's settings, and that each has an effect.

    Args:
        settings: `_target_` and arguments of `lightning.Trainer`.

    Raises:
        ValueError: naming the setting, and what to do instead.
    """
    for key, (plain, instead) in REFUSED_SETTINGS.items():
        if key in settings and settings[key] not in plain:
            raise ValueError(f"trainer.{key}={settings[key]} is not for variants: {instead}")
    if settings.get("strategy", "auto") != "auto":
        raise ValueError(
            f"trainer.strategy={settings['strategy']}: a variant trains on one device; for more, use LitAutoencoder in "
            "a lightning.Trainer of your own, see docs/scaling.md"
        )
    if str(settings.get("precision")) in ("16", "16-mixed"):
        raise ValueError("16-mixed needs a host that looks at every step: use trainer.precision=bf16-mixed or 32-true")
    if settings.get("limit_val_batches") == 0:
        raise ValueError("trainer.limit_val_batches=0 leaves nothing to measure: give 1 or more, or null for all")
    _check_intervals(settings)
    _check_clipping(settings)
    for callback in callback_settings(settings):
        made = None
        with suppress(Exception):  # what cannot be imported is reported when it is made
            made = get_object(str(callback["_target_"]))
        refuse_callback(made)


def counts_steps(settings: Mapping[str, Any]) -> bool:
    """Return whether a Trainer's settings set the number of steps, and not of epochs."""
    return settings.get("max_epochs") is None and settings.get("max_steps", -1) not in (None, -1)


def _check_intervals(settings: Mapping[str, Any]) -> None:
    interval = settings.get("val_check_interval")
    if not isinstance(interval, int | float | None):
        raise ValueError(
            f"trainer.val_check_interval={interval}: variants are validated after the same steps each time, not after "
            "a time: give a number of steps"
        )
    if counts_steps(settings):
        for key, plain, instead in (
            ("check_val_every_n_epoch", 1, "say with trainer.val_check_interval after how many steps to validate"),
            ("limit_train_batches", None, "set fewer steps with trainer.max_steps"),
        ):
            if settings.get(key) not in (None, plain):
                raise ValueError(
                    f"trainer.{key}={settings[key]} is about epochs, and trainer.max_steps={settings['max_steps']} "
                    f"counts steps: {instead}, or count epochs with trainer.max_epochs"
                )


def _check_clipping(settings: Mapping[str, Any]) -> None:
    algorithm = settings.get("gradient_clip_algorithm")
    known = [each.value for each in GradClipAlgorithmType]
    if algorithm is not None and algorithm not in known:
        raise ValueError(f"trainer.gradient_clip_algorithm={algorithm} is unknown: use {' or '.join(known)}")
    if algorithm is not None and not settings.get("gradient_clip_val"):
        raise ValueError(
            f"trainer.gradient_clip_algorithm={algorithm} does nothing without a threshold: add "
            "trainer.gradient_clip_val=1, or leave it out"
        )


def callback_settings(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the configurations of callbacks among a Trainer's settings.

    They are a list, one configuration, or configurations by name.

    Raises:
        ValueError: if one has no `_target_`.
    """
    given = settings.get("callbacks") or []
    if isinstance(given, Mapping):
        given = [given] if "_target_" in given else [each for each in given.values() if each is not None]
    for each in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        if not isinstance(each, Mapping) or "_target_" not in each:
            raise ValueError(
                f"trainer.callbacks has {each}, which is no callback: give a list such as "
                "'trainer.callbacks=[{_target_:package.module.Class}]'"
            )
    return list(given)


def refuse_callback(made: object) -> None:
    """Raise a ValueError if a class of callbacks is not for variants, with what to do instead."""
    if not isinstance(made, type):
        return  # a function that makes one
    for refused, instead in REFUSED_CALLBACKS.items():
        if issubclass(made, refused):
            raise ValueError(f"the callback {made.__name__} is not for variants: {instead}")


def make_callbacks(configs: Sequence[Mapping[str, Any]], folder: Path) -> list[L.Callback]:
    """Make the callbacks of a variant from their configurations.

    Args:
        folder: of the variant; files of a `ModelCheckpoint` are inside.

    Raises:
        ValueError: if one is none of Lightning's, is not for variants, or does nothing that a sweep calls.
    """
    made = []
    for config in configs:
        callback = build(config)
        if not isinstance(callback, L.Callback):
            raise ValueError(
                f"{config['_target_']} makes {type(callback).__name__}, which is no lightning.Callback: derive it from "
                "that class (of the package lightning, not pytorch_lightning)"
            )
        refuse_callback(type(callback))
        _check_hooks(callback)
        place = getattr(callback, "dirpath", None) if isinstance(callback, of_lightning.ModelCheckpoint) else None
        if place is not None and not Path(place).resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"dirpath={place} of {type(callback).__name__} would be shared by variants, or lie outside of their "
                "folders: leave it out, and every variant keeps its checkpoints in its own folder"
            )
        made.append(callback)
    return made


def overrides(callback: L.Callback, name: str) -> bool:
    """Return whether a callback has its own hook of that name, by its class or on itself."""
    return getattr(getattr(callback, name), "__func__", None) is not getattr(L.Callback, name)


def _check_hooks(callback: L.Callback) -> None:
    """Raise a ValueError if all that a callback does is in hooks that are never called."""
    in_vain = [name for name in NEVER_CALLED if overrides(callback, name)]
    if in_vain and not any(overrides(callback, name) for name in CALLED):
        raise ValueError(
            f"the callback {type(callback).__name__} does something in {', '.join(in_vain)} alone, which a sweep never "
            "calls: use on_validation_end or on_train_end"
        )
