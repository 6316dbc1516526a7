"""Reconstructions of photographs by trained variants: whole, in their own size, side by side."""

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from losslens.console import joined_lines, left_out
from losslens.data.pictures import as_images, is_picture_name, list_pictures
from losslens.files import is_disk_error, unique, write
from losslens.machine import free_memory
from losslens.pictures.grid import to_pil, write_picture
from losslens.pictures.sheet import ROWS_ON_A_PAGE, sheet, side_by_side
from losslens.trained.load import find_variants
from losslens.training.module import LitAutoencoder

SHEET = "sheet"
RESAMPLING = Image.Resampling.LANCZOS
MAX_COLUMNS = 9  # pictures in the sheet
LONGEST_STEM = 240  # bytes: a number and an ending follow, and names have at most 255
PASS_BYTES = 100  # a pixel, of a picture that passes through a network
KEPT_BYTES = 12  # a pixel, of a reconstruction that is shown beside others
THUMBNAIL = 192  # pixels of the longer side


def reconstruct_files(
    variants: Sequence[str], images: Sequence[str], folder: Path, *, codes: bool, console: Console, trust: bool = False
) -> None:
    """Reconstruct pictures by trained variants, and write them into a folder.

    For every picture NAME there is `NAME.png`, the original beside all reconstructions, and in a folder for each
    variant the reconstruction alone, of the picture's own size, and on request its code as `NAME.npy`, float32
    `(C, h, w)`. With several variants or pictures there is `sheet.png`.

    Args:
        variants: paths of variants, single runs, sweeps or checkpoint files.
        images: files, folders, or patterns such as `photos/*.jpg`.
        folder: must exist.
        trust: whether to make classes of packages other than losslens, torch and torchmetrics, if one names any.

    Raises:
        ValueError: if there is no variant or no picture; at the end, if a picture could not be reconstructed.
        OSError: if the disk is full.
    """
    modules = {name: found.load() for name, found in find_variants(list(variants), trust=trust).items()}
    files, failures = find_pictures(images)
    for name in modules:
        (folder / name).mkdir(exist_ok=True)
    shown: list[list[Image.Image]] = []
    num_failed = 0
    bar = track(files.items(), "reconstructing", console=console, transient=True, disable=not sys.stdout.isatty())
    for name, file in bar:
        try:
            rows = _reconstruct(modules, name, file, folder, codes)
            write_picture(folder / f"{name}.png", side_by_side(rows))
            if len(shown) < MAX_COLUMNS:
                shown.append([_thumbnail(each) for each in rows.values()])
        except Exception as error:  # own models, and the names of files, may fail in many ways
            if is_disk_error(error):
                raise
            num_failed += 1
            failures.append(_why(file, error))
    if shown and len(modules) + len(shown) > 2:
        write_picture(folder / f"{SHEET}.png", _sheet(["originals", *modules], shown))
    console.print(f"{len(files) - num_failed} of {len(files)} pictures in {folder}", markup=False, highlight=False)
    if failures:
        raise ValueError("; ".join(failures))


class FoundPictures(NamedTuple):
    """Files by unique names without endings, and why folders could not be looked into."""

    files: dict[str, Path]
    failures: list[str]


def find_pictures(paths: Sequence[str]) -> FoundPictures:
    """Find picture files. What else a pattern leads to is left out, in one line.

    Args:
        paths: files, folders (all picture files below them), or patterns.

    Raises:
        ValueError: if one leads to no file.
    """
    found: list[Path] = []
    failures: list[str] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            listing = list_pictures(path)
            files = listing.files
            failures += [f"{place} cannot be looked at ({reason})" for place, reason in listing.failures.items()]
        elif path.exists():
            files = [path]
        else:
            places = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
            files = [place for place in places if is_picture_name(place.name) and place.is_file()]
            left_out(given, "picture", [place for place in places if place not in files])
        if not files:
            why = f" ({failures[-1]})" if failures else ""
            raise ValueError(f"{given} leads to no picture{why}: give files or folders with images=PATH")
        found += files
    stems = [os.fsdecode(os.fsencode(file.stem)[:LONGEST_STEM]) for file in found]
    _, *names = unique([SHEET, *stems])
    return FoundPictures(dict(zip(names, found, strict=True)), failures)


def _reconstruct(
    modules: Mapping[str, LitAutoencoder], name: str, file: Path, folder: Path, codes: bool
) -> dict[str, Image.Image]:
    """Reconstruct one picture by every variant, write each, and return all with the original first."""
    images = as_images(file)
    needed = (PASS_BYTES + KEPT_BYTES * len(modules)) * images[0, 0].numel()
    if needed > free_memory(torch.device("cpu")):
        raise MemoryError
    rows = {"original": to_pil(images[0])}
    for variant, module in modules.items():
        rows[variant] = to_pil(module.reconstruct(images)[0])
        write_picture(folder / variant / f"{name}.png", rows[variant])
        if codes:
            with torch.no_grad():
                code = module.encode(images)[0].float().numpy()
            write(folder / variant / f"{name}.npy", partial(_save, code=code))
    return rows


def _save(path: Path, code: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, NumPy appends an ending
        np.save(file, code, allow_pickle=False)


def _sheet(names: list[str], columns: list[list[Image.Image]]) -> Image.Image:
    """Set small copies in a sheet: a row of originals, then one for each variant."""
    size = tuple(max(sides) for sides in zip(*(column[0].size for column in columns), strict=True))
    rows = {
        name: torch.stack([_small(column[row], (size[0], size[1])) for column in columns])
        for row, name in enumerate(names[: 1 + ROWS_ON_A_PAGE])
    }
    return sheet(rows.pop("originals"), rows)


def _thumbnail(picture: Image.Image) -> Image.Image:
    """Reduce or enlarge a picture to `THUMBNAIL`; however long it is, both sides have a pixel."""
    scale = THUMBNAIL / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), RESAMPLING)


def _small(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """Set a thumbnail in the middle of a white picture."""
    small = Image.new("RGB", size, "white")
    small.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return torch.from_numpy(np.array(small)).movedim(-1, 0).float() / 255


def _why(file: Path, error: Exception) -> str:
    reason = joined_lines(error)
    if isinstance(error, MemoryError) or "allocate memory" in reason:
        return f"{file} needs more memory than there is: reduce it first"
    if not isinstance(error, ValueError | RuntimeError | OSError):
        reason = f"{type(error).__name__} {reason}".rstrip()
    return reason if reason.startswith(str(file)) else f"{file}: {reason}"
