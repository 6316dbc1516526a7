"""Baselines without training, in the table of the variants and beside the same originals."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from losslens.data.datamodule import fixed_images
from losslens.data.source import Images
from losslens.files import write
from losslens.losses import LinearView
from losslens.losses.loss import linear_view
from losslens.pictures.grid import grid, png_summary, to_pil
from losslens.report.linear_code import LinearCode, block_statistics
from losslens.sweep.baseline import FOLDER, Baseline, write_baselines
from losslens.sweep.results import SweepResult, VariantResult
from losslens.training.finish import built_losses, mean_losses
from losslens.training.fit import NUM_FIXED_IMAGES
from losslens.training.metrics import reconstruction_metrics
from losslens.training.random_stream import RandomStream
from losslens.variant import config_key

AT_ONCE = 8  # images
QUALITIES = range(1, 96)  # JPEG; Pillow advises against higher ones

Reconstruct = Callable[[Tensor], Tensor]


def measure_baselines(sweep: SweepResult, decode: Callable[[Mapping[str, Any]], Images]) -> None:
    """Measure the baselines that finished variants are configured with, and write them beside the variants."""
    left_out: list[str] = []
    groups: dict[str, list[VariantResult]] = {}
    for variant in sweep.done:
        if variant.foreign:
            continue
        if wanted := variant.config.get("baselines"):
            key = config_key(variant.config["data"], variant.results["code_shape"], wanted)
            groups.setdefault(key, []).append(variant)
    (sweep.folder / FOLDER).mkdir(exist_ok=True)
    found: list[Baseline] = []
    for number, variants in enumerate(groups.values(), start=1):
        ending = f" {number}" if len(groups) > 1 else ""
        try:
            images = decode(variants[0].config["data"])
        except (ValueError, OSError) as error:
            left_out.append(f"no baselines{ending}: {error}")
            continue
        found += _of_group(sweep.folder, variants, images, ending, left_out.append)
    write_baselines(sweep.folder, found, left_out)


def _of_group(
    folder: Path,
    variants: Sequence[VariantResult],
    images: Images,
    ending: str,
    say: Callable[[str], None],
) -> Iterator[Baseline]:
    """Measure the baselines of variants with the same data and code shape."""
    with RandomStream().own_random_state():  # one at a time: all threads share torch's generator
        losses = built_losses({each.own_loss: each.config["loss"] for each in variants}, torch.device("cpu"))
    code_shape, val = variants[0].results["code_shape"], images.val[:]
    fixed = fixed_images(images, NUM_FIXED_IMAGES)
    names = [each.name for each in variants]

    def baseline(name: str, reconstruct: Reconstruct, beside: list[str], view: LinearView | None) -> Baseline:
        metrics, measured = _measure(reconstruct, val, losses, view)
        found = Baseline(name + ending, beside, metrics, measured, folder)
        png = png_summary(to_pil(grid([fixed, reconstruct(fixed)])), len(fixed)).encoded_image_string
        write(found.picture, lambda aside: aside.write_bytes(png))
        return found

    for kind in variants[0].config["baselines"]:
        try:
            if kind == "mean":
                yield baseline(kind, lambda batch: batch.mean((2, 3), keepdim=True).expand_as(batch), names, None)
            elif kind == "jpeg":
                yield baseline(kind, partial(_jpegs, most=torch.Size(code_shape).numel()), names, None)
            else:
                blocks = block_statistics(images.train, block_side(code_shape, val.shape[-2:]))
                yield baseline(kind, LinearCode(blocks, code_shape[0]), names, LinearView(torch.eye(3).tolist()))
                for name, view in _partial_views(losses).items():
                    seeing_it = [each for each, loss in losses.items() if _same(linear_view(loss), view)]
                    beside = [each.name for each in variants if each.own_loss in seeing_it]
                    yield baseline(f"{kind} of {name}", LinearCode(blocks, code_shape[0], view), beside, view)
        except ValueError as error:
            say(f"no {kind}{ending}: {error}")


def block_side(code_shape: Sequence[int], image_shape: Sequence[int]) -> int:
    """Return the side, in pixels, of the square block that one position of a code covers.

    Args:
        code_shape: `(C, h, w)` of one code.
        image_shape: height and width.

    Raises:
        ValueError: if the positions of a code do not match square blocks.
    """
    if len(code_shape) == 3:
        height, width = image_shape
        side = -(-height // code_shape[1])
        if [-(-height // side), -(-width // side)] == list(code_shape[1:]):
            return side
    raise ValueError(f"a code of shape {list(code_shape)} has no place for each square block of the image")


def jpeg(image: Tensor, most: int) -> Tensor:
    """Compress a float image `(3, H, W)` in [0, 1] as JPEG, at the best quality of at most `most` bytes, and decode it.

    Raises:
        ValueError: if no quality fits.
    """
    picture = to_pil(image)
    low, high, best = QUALITIES.start, QUALITIES.stop - 1, b""
    while low <= high:
        middle = (low + high) // 2
        encoded = io.BytesIO()
        picture.save(encoded, format="JPEG", quality=middle, optimize=True)
        if encoded.tell() <= most:
            low, best = middle + 1, encoded.getvalue()
        else:
            high = middle - 1
    if not best:
        raise ValueError(f"no quality gives {most} bytes, as many as the code has numbers")
    return torch.from_numpy(np.array(Image.open(io.BytesIO(best)))).movedim(-1, 0).float() / 255


def _jpegs(images: Tensor, most: int) -> Tensor:
    return torch.stack([jpeg(image, most) for image in images])


@torch.no_grad()
def _measure(
    reconstruct: Reconstruct, val: Tensor, losses: Mapping[str, nn.Module], view: LinearView | None
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Measure reconstructions of uint8 validation images as training measures those of variants."""
    metrics = reconstruction_metrics(view)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in val.split(AT_ONCE):
            images = batch.float() / 255
            reconstructions = reconstruct(images)
            metrics.update(reconstructions, images)
            yield reconstructions, images

    measured = mean_losses(losses, pairs())
    return {name.removeprefix("val/"): value.item() for name, value in metrics.compute().items()}, measured


def _partial_views(losses: Mapping[str, nn.Module]) -> dict[str, LinearView]:
    """Return the distinct linear views that do not see all of RGB, each by the first loss that has it."""
    found: dict[str, LinearView] = {}
    for name, loss in losses.items():
        view = linear_view(loss)
        if view is not None and len(view.unseen_axes()) and not any(_same(view, each) for each in found.values()):
            found[name] = view
    return found


def _same(view: LinearView | None, other: LinearView) -> bool:
    return view is not None and torch.equal(view.weights, other.weights)
