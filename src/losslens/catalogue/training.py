"""Reconstructions of one photograph by networks trained alike under every loss."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from PIL import Image

from losslens.catalogue.record import Entry
from losslens.data.pictures import as_images
from losslens.pictures.grid import to_pil
from losslens.run.command import run_sweep
from losslens.sweep.results import VariantsFailed, load_sweep
from losslens.variant import config_key


def reconstruct(
    entries: Sequence[Entry], settings: Mapping[str, Any], photograph: Path
) -> dict[str, tuple[Image.Image, list[float]]]:
    """Train a sweep over the losses, and reconstruct a photograph by each variant. Equal losses are trained once.

    Args:
        entries: whose losses can be built here.
        settings: of the training without the loss, resolved.

    Returns:
        By the entry's key, the picture, clamped to [0, 1], and the range of its values before. Failed variants are
        left out; the sweep says why.
    """
    distinct: dict[str, Entry] = {}
    for entry in entries:
        distinct.setdefault(config_key(entry.config), entry)
    jobs = [
        (
            OmegaConf.create({**settings, "loss": entry.config, "report": False}),
            [f"loss={entry.key}"],
            {"loss": entry.key, "model": "small", "data": "photos"},
        )
        for entry in distinct.values()
    ]
    images = as_images(photograph)
    pictures: dict[str, tuple[Image.Image, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with suppress(VariantsFailed):
            run_sweep(jobs, Path(folder))
        for variant in load_sweep(folder, trust=True).done:
            with torch.no_grad():
                values = variant.load().eval()(images)[0]
            low, high = (float(f"{float(each):.3g}") for each in (values.min(), values.max()))
            pictures[str(variant.values["loss"])] = to_pil(values.clamp(0, 1)), [low, high]
    trained = {key: pictures[entry.key] for key, entry in distinct.items() if entry.key in pictures}
    return {entry.key: trained[key] for entry in entries if (key := config_key(entry.config)) in trained}
