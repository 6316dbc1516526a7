"""Measure and show a variant once it is trained."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from losslens.build import build_loss
from losslens.data.datamodule import ArrayDataModule
from losslens.data.stored import StoredImages
from losslens.pictures.grid import evenly, png_summary
from losslens.training.callbacks import ImageGrid
from losslens.training.logger import MAX_CODES, RunLogger, add_codes
from losslens.training.variant_trainer import VariantTrainer

CODES_AT_ONCE = 32


def measure_losses(
    member: VariantTrainer, data: ArrayDataModule, losses: Mapping[str, Mapping[str, Any]]
) -> dict[str, float | None]:
    """Measure a trained variant with losses: the mean over all validation images.

    Args:
        losses: configurations by name.

    Returns:
        By name; None for a loss that cannot measure these images: it raises an error, or is not finite.
    """
    if not losses:
        return {}
    module, precision = member.module.eval(), member.precision_plugin

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in data.val_dataloader():
            images = batch.to(module.device)
            with torch.no_grad(), precision.forward_context():
                reconstructions = module(precision.convert_input(images))
            yield reconstructions, images

    return {**dict.fromkeys(losses), **mean_losses(built_losses(losses, module.device), pairs())}


def built_losses(losses: Mapping[str, Mapping[str, Any]], device: torch.device) -> dict[str, nn.Module]:
    """Make losses of configurations by name, for measuring; one that cannot be made is left out."""
    modules = {}
    for name, config in losses.items():
        with suppress(Exception):  # another variant's loss; the error is reported there
            modules[name] = build_loss(config).eval().to(device)
    return modules


def mean_losses(modules: Mapping[str, nn.Module], pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """Average losses over images.

    Args:
        pairs: batches of reconstructions and originals, each `(N, 3, H, W)`.

    Returns:
        By name; None for a loss that cannot measure these images: it raises an error, or is not finite.
    """
    totals, count = dict.fromkeys(modules, 0.0), 0
    for reconstructions, images in pairs:
        count += len(images)
        for name, loss in modules.items():
            try:
                totals[name] += loss(reconstructions, images).item() * len(images)
            except Exception:  # another variant's loss; the error is reported there
                totals[name] = math.nan
    return {name: total / count if math.isfinite(total) else None for name, total in totals.items()}


def show(member: VariantTrainer, data: ArrayDataModule, logger: RunLogger, pictures: ImageGrid) -> None:
    """Add codes of the validation images and a cloud of colors to a variant's TensorBoard run."""
    from losslens.pictures.clouds import color_clouds, to_picture  # imports matplotlib, which is slow

    module, precision = member.module.eval(), member.precision_plugin
    images = some(data.images.val, MAX_CODES).to(module.device)
    with torch.no_grad(), precision.forward_context():
        codes = torch.cat([module.encode(precision.convert_input(batch)) for batch in images.split(CODES_AT_ONCE)])
    add_codes(logger.experiment, codes.float().cpu(), images.cpu(), member.global_step)
    clouds = to_picture(color_clouds(pictures.images, pictures.reconstructions))
    logger.add_picture("pixels of originals and reconstructions in RGB", png_summary(clouds), member.global_step)


def some(images: Tensor | StoredImages, most: int) -> Tensor:
    """Return at most `most` of uint8 images, evenly spaced, as float images in [0, 1]."""
    return images[evenly(len(images), most)].float() / 255
