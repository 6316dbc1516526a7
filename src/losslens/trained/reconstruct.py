"""Reconstructions of photographs by trained variants: whole, in their own size, side by side."""

import glob
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from losslens.console import joined_lines
from losslens.data.pictures import as_images
from losslens.files import unique, write
from losslens.pictures.grid import to_pil, write_picture
from losslens.pictures.sheet import ROWS_ON_A_PAGE, sheet, side_by_side
from losslens.trained.load import find_variants
from losslens.training.module import LitAutoencoder

SHEET = "sheet"
RESAMPLING = Image.Resampling.LANCZOS
MAX_COLUMNS = 9  # pictures in the sheet
THUMBNAIL = 192  # pixels of the longer side


def reconstruct_files(
    variants: Sequence[str], images: Sequence[str], folder: Path, *, codes: bool, console: Console
) -> None:
    """Reconstruct pictures by trained variants, and write them into a folder.

    For every picture NAME there is `NAME.png`, the original beside all reconstructions, and in a folder for each
    variant the reconstruction alone, of the picture's own size, and on request its code as `NAME.npy`, float32
    `(C, h, w)`. With several variants or pictures there is `sheet.png`.

    Args:
        variants: paths of variants, single runs, sweeps or checkpoint files.
        images: files, folders, or patterns such as `photos/*.jpg`.
        folder: must exist.

    Raises:
        ValueError: if there is no variant or no picture; at the end, if a picture could not be reconstructed.
    """
    modules = {name: found.load() for name, found in find_variants(list(variants)).items()}
    files = find_pictures(images)
    for name in modules:
        (folder / name).mkdir(exist_ok=True)
    shown: list[list[Image.Image]] = []
    failures = []
    bar = track(files.items(), "reconstructing", console=console, transient=True, disable=not sys.stdout.isatty())
    for name, file in bar:
        try:
            rows = _reconstruct(modules, name, file, folder, codes)
            write_picture(folder / f"{name}.png", side_by_side(rows))
        except (ValueError, RuntimeError, MemoryError) as error:
            failures.append(_why(file, error))
            continue
        if len(shown) < MAX_COLUMNS:
            shown.append([ImageOps.contain(each, (THUMBNAIL, THUMBNAIL), RESAMPLING) for each in rows.values()])
    if shown and len(modules) + len(shown) > 2:
        write_picture(folder / f"{SHEET}.png", _sheet(["originals", *modules], shown))
    console.print(f"{len(files) - len(failures)} of {len(files)} pictures in {folder}", markup=False, highlight=False)
    if failures:
        raise ValueError("; ".join(failures))


def find_pictures(paths: Sequence[str]) -> dict[str, Path]:
    """Find picture files, by unique names without endings.

    Args:
        paths: files, folders (all picture files below them), or patterns.

    Raises:
        ValueError: if one leads to no file.
    """
    endings = Image.registered_extensions()
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
        else:
            files = [path] if path.exists() else [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        if not files:
            raise ValueError(f"{given} leads to no picture: give files or folders with images=PATH")
        found += files
    _, *names = unique([SHEET, *(file.stem for file in found)])
    return dict(zip(names, found, strict=True))


def _reconstruct(
    modules: Mapping[str, LitAutoencoder], name: str, file: Path, folder: Path, codes: bool
) -> dict[str, Image.Image]:
    """Reconstruct one picture by every variant, write each, and return all with the original first."""
    images = as_images(file)
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


def _small(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    small = ImageOps.pad(picture, size, RESAMPLING, color="white")
    return torch.from_numpy(np.array(small)).movedim(-1, 0).float() / 255


def _why(file: Path, error: Exception) -> str:
    reason = joined_lines(error)
    if isinstance(error, MemoryError) or "allocate memory" in reason:
        return f"{file} needs more memory than there is: reduce it first"
    return reason if reason.startswith(str(file)) else f"{file}: {reason}"
