"""The sheet of a sweep: originals above the reconstructions of every variant; also as a film of the training."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from losslens.build import build_loss
from losslens.files import numbered
from losslens.losses.views import LinearView
from losslens.pictures.grid import png_summary, write_picture
from losslens.pictures.sheet import ROWS_ON_A_PAGE, sheet
from losslens.sweep.results import SweepResult, VariantResult
from losslens.variant import config_key

WEBP_QUALITY = 80
FRAME_MILLISECONDS = 700
LAST_FRAME_MILLISECONDS = 2500
MOST_VIEWS = 8  # kept, of the losses of the variants shown last
ZERO_SUM = 1e-4  # tolerance: the weights of color differences are rounded
LAYOUT = {
    "what each loss sees, and what it does not": {
        "seen and unseen": ["Multiline", ["val/seen_error", "val/unseen_error"]],
        "seen": ["Multiline", ["val/seen_error"]],
        "unseen": ["Multiline", ["val/unseen_error"]],
    },
    "errors along color directions": {
        name: ["Multiline", [f"val/{name}"]] for name in ("red", "green", "blue", "luma", "cb", "cr")
    },
}


def detail_rows(variant: VariantResult, step: int) -> dict[str, Tensor]:
    """Return a variant's detailed rows by name: reconstructions, errors, and what its loss sees."""
    originals, reconstructions = variant.originals, variant.reconstructions(step)
    assert originals is not None
    rows = {"reconstructions": reconstructions, "absolute errors": (reconstructions - originals).abs()}
    for name, images in (("originals", originals), ("reconstructions", reconstructions)):
        seen = None if variant.foreign else picture_of_view(variant.config.get("loss", {}), images)
        if seen is not None:
            rows[f"seen of {name}"] = seen
    return rows


def pages(sweep: SweepResult, *, details: bool = False) -> list[tuple[Image.Image, list[str]]]:
    """Draw a sweep's sheet: a page for each set of originals, and one more for every 20 rows.

    Args:
        sweep: with pictures of at least one variant.
        details: whether to add rows for each variant's errors and for what its loss sees.

    Returns:
        Pages, and the names of the rows on each.
    """
    drawn = []
    for variants in same_originals(sweep):
        rows: dict[str, Tensor] = {}
        for variant in variants:
            last = variant.picture_steps[-1]
            if details:
                rows |= {f"{variant.name}: {name}": row for name, row in detail_rows(variant, last).items()}
            else:
                rows[variant.name] = variant.reconstructions(last)
        untrained = {} if details else baseline_rows(sweep, variants)
        rows |= untrained
        names = list(rows)
        originals = variants[0].originals
        assert originals is not None
        for first in range(0, len(names), ROWS_ON_A_PAGE):
            here = names[first : first + ROWS_ON_A_PAGE]
            drawn.append((sheet(originals, {name: rows[name] for name in here}, faint=untrained), here))
    return drawn


def baseline_rows(sweep: SweepResult, variants: Sequence[VariantResult]) -> dict[str, Tensor]:
    """Return, by name, the reconstructions of the baselines of variants that have the same originals."""
    names = {variant.name for variant in variants}
    return {each.name: each.reconstructions for each in sweep.baselines if names & set(each.beside)}


def same_originals(sweep: SweepResult) -> list[list[VariantResult]]:
    """Group the variants that have pictures by their fixed images; only the same images share columns."""
    groups: list[list[VariantResult]] = []
    for variant in sweep.variants.values():
        if variant.originals is None:
            continue
        for group in groups:
            assert group[0].originals is not None
            if torch.equal(group[0].originals, variant.originals):
                group.append(variant)
                break
        else:
            groups.append([variant])
    return groups


def films(sweep: SweepResult) -> list[dict[int, Image.Image]]:
    """Draw the first page of a sweep's sheet over training, by step; a film for each set of originals."""
    return [dict(_frames(variants)) for variants in same_originals(sweep)]


def _frames(variants: Sequence[VariantResult]) -> Iterator[tuple[int, Image.Image]]:
    """Yield steps and sheets of variants with the same originals over training, from initialization on.

    A variant without pictures of a step is shown at its last step before.
    """
    originals = variants[0].originals
    assert originals is not None
    shown = variants[:ROWS_ON_A_PAGE]
    for step in sorted({step for variant in shown for step in variant.picture_steps}):
        rows = {}
        for variant in shown:
            kept = variant.picture_steps
            rows[variant.name] = variant.reconstructions(max([each for each in kept if each <= step] or kept[:1]))
        yield step, sheet(originals, rows, caption=f"step {step}")


def write_sheets(sweep: SweepResult, folder: Path, *, details: bool = False) -> list[Path]:
    """Write `sheet.png` and `.webp` (`details.*` with details), numbered from the second page on; return the PNGs."""
    paths = []
    for number, (page, _) in enumerate(pages(sweep, details=details), start=1):
        path = folder / f"{numbered('details' if details else 'sheet', number)}.png"
        write_picture(path, page, compress_level=4)
        write_picture(path.with_suffix(".webp"), page, quality=WEBP_QUALITY)
        paths.append(path)
    return paths


def write_progress(films: Sequence[Mapping[int, Image.Image]], folder: Path) -> None:
    """Write `progress.webp`, the sheet's first page over training; numbered for further sets of originals."""
    for number, frames in enumerate(films, start=1):
        shown = list(frames.values())
        width = max(frame.width for frame in shown)  # the captions' widths differ
        shown = [_widen(frame, width) for frame in shown]
        durations = [FRAME_MILLISECONDS] * (len(shown) - 1) + [LAST_FRAME_MILLISECONDS]
        write_picture(
            folder / f"{numbered('progress', number)}.webp",
            shown[0],
            save_all=True,
            append_images=shown[1:],
            duration=durations,
            loop=0,
            quality=WEBP_QUALITY,
            method=2,  # a third of the default's time
        )


def _widen(frame: Image.Image, width: int) -> Image.Image:
    page = Image.new("RGB", (width, frame.height), "white")
    page.paste(frame, (width - frame.width, 0))
    return page


def picture_of_view(loss: Mapping[str, Any], images: Tensor) -> Tensor | None:
    """Draw the features of a loss's view: one feature as gray, three as red, green and blue; never rescaled.

    Features of a linear view whose weights sum to 0 (color differences) are shown around mid-gray.

    Args:
        images: float `(N, 3, H, W)` in [0, 1].

    Returns:
        Float images of that shape, clamped to [0, 1]; None if the loss has no view, if its features are no image, or
        if it cannot be built here.
    """
    try:
        view = _view(config_key(loss))
        if not isinstance(view, nn.Module):
            return None
        with torch.no_grad():
            features = view(images)
    except Exception:  # a custom loss need not be importable where only its results are read
        return None
    if not isinstance(features, Tensor) or features.ndim != 4:
        return None
    if features.shape[1] not in (1, 3) or features.shape[-2:] != images.shape[-2:]:
        return None
    if isinstance(view, LinearView):
        features = features + 0.5 * (view.weights.sum(1).abs() < ZERO_SUM).to(features)[:, None, None]
    return features.expand(-1, 3, -1, -1).clamp(0, 1)


@lru_cache(maxsize=MOST_VIEWS)
def _view(loss: str) -> Any:
    """Return the view of a loss, given as `config_key` writes it; variants of one loss share it."""
    return getattr(build_loss(json.loads(loss)[0]), "view", None)


def write_sweep_run(films: Sequence[Mapping[int, Image.Image]], folder: Path) -> None:
    """Write the TensorBoard events of the sweep's own run into its folder, replacing earlier ones."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars(LAYOUT)
        for number, frames in enumerate(films, start=1):
            tag = f"all variants {number}" if number > 1 else "all variants"  # TensorBoard shows it first
            for step, page in frames.items():
                summary = Summary(value=[Summary.Value(tag=tag, image=png_summary(page))])
                writer._get_file_writer().add_summary(summary, step)
