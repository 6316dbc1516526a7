"""The picture of a sweep: originals above the reconstructions of every variant; over training, it moves."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from losslens.files import numbered, write
from losslens.report.results import SweepResult, VariantResult
from losslens.report.seen import picture_of_view
from losslens.training.grid import grid, to_pil

MIN_SIDE = 128  # pixels of an image in the sheet; smaller ones are enlarged by a whole factor
MARGIN = 8
STROKE = 1  # around letters: TensorBoard's thumbnails leave out three pixels of four, and letters stay readable
ROWS_ON_A_PAGE = 20
WEBP_QUALITY = 80
FRAME_MILLISECONDS = 700
LAST_FRAME_MILLISECONDS = 2500


def sheet(originals: Tensor, rows: Mapping[str, Tensor], caption: str = "", faint: Collection[str] = ()) -> Image.Image:
    """Set originals above other rows, with names at the left.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1].
        rows: float `(N, 3, H, W)` by name, reconstructions of variants for instance, from top to bottom.
        caption: instead of the originals' name, where more is to be said.
        faint: names of rows that are no variants.
    """
    labelled = {caption or "originals": originals, **rows}
    scale = max(1, -(-MIN_SIDE // originals.shape[-2]))
    enlarged = [row.repeat_interleave(scale, -1).repeat_interleave(scale, -2) for row in labelled.values()]
    picture = to_pil(grid(enlarged))
    font = ImageFont.load_default(max(16, originals.shape[-2] * scale // 4))
    left = 2 * MARGIN + round(max(font.getlength(name) for name in labelled))
    page = Image.new("RGB", (left + picture.width + MARGIN, picture.height + 2 * MARGIN), "white")
    page.paste(picture, (left, MARGIN))
    draw = ImageDraw.Draw(page)
    row_height = picture.height / len(labelled)
    for index, name in enumerate(labelled):
        position = (left - MARGIN, MARGIN + (index + 0.5) * row_height)
        ink = "gray" if name in faint else "black"
        draw.text(position, name, fill=ink, font=font, anchor="rm", stroke_width=STROKE)
    return page


def detail_rows(variant: VariantResult, step: int) -> dict[str, Tensor]:
    """Return what a variant's detailed rows show, by name: reconstructions, errors, and what its loss sees of both."""
    originals, reconstructions = variant.originals, variant.reconstructions(step)
    assert originals is not None
    rows = {"reconstructions": reconstructions, "absolute errors": (reconstructions - originals).abs()}
    for name, images in (("originals", originals), ("reconstructions", reconstructions)):
        seen = picture_of_view(variant.config["loss"], images)
        if seen is not None:
            rows[f"seen of {name}"] = seen
    return rows


def pages(sweep: SweepResult, *, details: bool = False) -> list[tuple[Image.Image, list[str]]]:
    """Draw a sweep's sheet as it is now: a page for each set of originals, and one more for every 20 rows.

    Args:
        sweep: at least one of its variants has pictures.
        details: whether each variant also has rows for its errors and for what its loss sees.

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
    """Return the reconstructions of the baselines of some variants, which have the same originals, by name."""
    names = {variant.name for variant in variants}
    return {each.name: each.reconstructions for each in sweep.baselines if names & set(each.beside)}


def same_originals(sweep: SweepResult) -> list[list[VariantResult]]:
    """Group the variants that have pictures by their fixed images: only those of the same images share columns."""
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
    """Yield steps and sheets of variants with the same originals over their training, the first untrained.

    A variant of which that step is not kept is shown as it was last before.
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
    """Write `sheet.png` and `sheet.webp`, numbered from the second page on; with details `details.png` and so on.

    Returns:
        The PNG files.
    """
    paths = []
    for number, (page, _) in enumerate(pages(sweep, details=details), start=1):
        path = folder / f"{numbered('details' if details else 'sheet', number)}.png"
        write(path, lambda aside, page=page: page.save(aside, format="PNG", compress_level=4))  # type: ignore[misc]
        small = path.with_suffix(".webp")
        write(small, lambda aside, page=page: page.save(aside, format="WEBP", quality=WEBP_QUALITY))  # type: ignore[misc]
        paths.append(path)
    return paths


def write_progress(films: Sequence[Mapping[int, Image.Image]], folder: Path) -> None:
    """Write `progress.webp`, the sheet's first page over training; numbered for further sets of originals."""
    for number, frames in enumerate(films, start=1):
        shown = list(frames.values())
        width = max(frame.width for frame in shown)  # the captions' widths differ
        shown = [_widen(frame, width) for frame in shown]
        durations = [FRAME_MILLISECONDS] * (len(shown) - 1) + [LAST_FRAME_MILLISECONDS]
        path = folder / f"{numbered('progress', number)}.webp"
        write(
            path,
            lambda aside, shown=shown, durations=durations: shown[0].save(  # type: ignore[misc]
                aside,
                format="WEBP",
                save_all=True,
                append_images=shown[1:],
                duration=durations,
                loop=0,
                quality=WEBP_QUALITY,
                method=2,  # a third of the default's time
            ),
        )


def _widen(frame: Image.Image, width: int) -> Image.Image:
    page = Image.new("RGB", (width, frame.height), "white")
    page.paste(frame, (width - frame.width, 0))
    return page
