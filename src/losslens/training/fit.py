"""Train one variant from its configuration, and leave in its folder all that it was and became."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from losslens.data.datamodule import ImageDataModule
from losslens.data.source import Images
from losslens.files import write_json
from losslens.losses import LinearView, check_loss
from losslens.losses.color import COLOR_DIRECTIONS
from losslens.training.build import build
from losslens.training.callbacks import MetricsTable, StepReport, StopAtNaN
from losslens.training.grid import ImageGrid
from losslens.training.logger import HParam, RunLogger
from losslens.training.metrics import METRICS
from losslens.training.module import LitAutoencoder

NUM_FIXED_IMAGES = 9  # columns of every grid: one from each photograph of the default data


@dataclass(frozen=True)
class Outcome:
    """What a trained variant came to.

    Args:
        metrics: of the last validation, by name.
        seen: names of the metrics along directions that the variant's own loss sees.
        facts: what else `metrics.json` says: code, compression ratio, steps, time.
        originals: the fixed images, float `(N, 3, H, W)`.
        reconstructions: of the fixed images, clamped to [0, 1].
    """

    metrics: dict[str, float]
    seen: list[str]
    facts: dict[str, Any]
    originals: Tensor
    reconstructions: Tensor


def fit(
    config: Mapping[str, Any],
    images: Images,
    folder: Path,
    values: Mapping[str, HParam],
    report: Callable[[int, float], None],
) -> Outcome:
    """Train a variant.

    Args:
        config: resolved, plain: `model`, `loss`, `optimizer`, `schedule`, `trainer`, `data`, `seed`.
        images: decoded.
        folder: of the variant; it exists.
        values: what is shown in the HParams tab.
        report: called after every step with the steps done and the steps in all.

    Raises:
        ValueError: if a part of the configuration does not fit the others, or the loss turns NaN.
    """
    L.seed_everything(config["seed"], verbose=False)
    parts = {part: config[part] for part in ("loss", "optimizer", "schedule")}
    module = LitAutoencoder(autoencoder=config["model"], **parts)
    data = ImageDataModule(
        images, batch_size=config["data"]["batch_size"], flip=config["data"]["flip"], seed=config["seed"]
    )
    originals = data.fixed_images(NUM_FIXED_IMAGES)
    code_shape = check_autoencoder(module, originals)
    check_loss(module.loss, originals)

    logger = RunLogger(folder)
    table, pictures = MetricsTable(folder), ImageGrid(originals, folder)
    checkpoint = ModelCheckpoint(
        folder / "checkpoints", "best", monitor="val/loss", save_last=True, enable_version_counter=False
    )
    trainer = make_trainer(
        config["trainer"], folder, logger, [StopAtNaN(), StepReport(report), table, pictures, checkpoint]
    )
    facts: dict[str, Any] = {
        "code_shape": code_shape,
        "compression_ratio": originals[0].numel() / torch.Size(code_shape).numel(),
        "num_parameters": sum(parameter.numel() for parameter in module.autoencoder.parameters()),
    }
    logger.open_session({**values}, [f"val/{name}" for name in METRICS])
    logger.log_metrics({"compression_ratio": facts["compression_ratio"]}, step=0)
    start = time.perf_counter()
    trainer.fit(module, datamodule=data)
    if not table.rows or table.rows[-1]["step"] != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)
        trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
        if not checkpoint.best_model_path:
            trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    seconds = time.perf_counter() - start
    pictures.finish(trainer)
    logger.close_session()

    facts |= {"steps": trainer.global_step, "epochs": trainer.current_epoch, "seconds": round(seconds, 3)}
    seen = seen_directions(module.loss)
    write_json(folder / "metrics.json", {"metrics": table.final, "seen": seen, **facts})
    return Outcome(table.final, seen, facts, originals, pictures.reconstructions)


def check_autoencoder(module: LitAutoencoder, images: Tensor) -> list[int]:
    """Check that a model takes these images and returns their like.

    Returns:
        The shape of one code.

    Raises:
        ValueError: if the reconstructions' shape is not that of the images.
    """
    training = module.training
    module.eval()
    with torch.no_grad():
        code, reconstructions = module.encode(images), module(images)
    module.train(training)
    if reconstructions.shape != images.shape:
        raise ValueError(
            f"model {type(module.autoencoder).__name__} turns images {tuple(images.shape)} into "
            f"{tuple(reconstructions.shape)}: decode(encode(images)) must have at least their size and 3 channels"
        )
    return list(code.shape[1:])


def seen_directions(loss: nn.Module) -> list[str]:
    """Name the color directions that determine the value of a loss; empty if its view is not linear."""
    view = getattr(loss, "view", None)
    if not isinstance(view, LinearView):
        return []
    return [name for name, direction in COLOR_DIRECTIONS.items() if view.sees(direction)]


def make_trainer(config: Mapping[str, Any], folder: Path, logger: RunLogger, callbacks: list[L.Callback]) -> L.Trainer:
    """Make a Trainer that is quiet and writes into the variant's folder.

    Args:
        config: `_target_` and arguments of `lightning.Trainer`; `precision: auto` is bf16 where a GPU has it, and
            `callbacks` are added to the given ones.
        folder: of the variant.
        logger: of the variant.
        callbacks: of the variant.
    """
    config = dict(config)
    own = [build(callback) for callback in config.pop("callbacks", None) or []]
    if config.get("precision") == "auto":
        on_gpu = config.get("accelerator") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        config["precision"] = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(False) else "32-true"
    trainer: L.Trainer = build(
        config,
        logger=logger,
        callbacks=[*own, *callbacks],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    return trainer
