"""Images below a folder, in any mode that Pillow opens, as upright RGB crops of one size."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Condition
from typing import NamedTuple
from zlib import crc32

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from losslens.console import LISTED, warn
from losslens.data import cache
from losslens.data.crops import cut_crops
from losslens.data.pictures import (
    MAX_PIXELS,
    NO_MEMORY,
    READER,
    WHITE,
    Unreadable,
    list_pictures,
    open_picture,
    quiet_pillow,
)
from losslens.data.source import Images, Source, split
from losslens.data.stored import StoredImages
from losslens.machine import free_memory

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
PIECE_BYTES = 2**22  # decoded images written at once
LARGEST_SPAN = 8  # photograph's shorter side over its smallest crop's; smaller crops show hardly anything
MAX_SHARE_OF_MEMORY = 0.25  # that is free, for pictures being decoded
NARROW = 1 / 8  # of the range: files of 16 bits that use less are dark
PIECE_LENGTH = 4  # images per core, if that is more: all cores wait for the last image of a piece


@dataclass(kw_only=True)
class Folder(Source):
    """Images below a folder, sorted by path.

    Subfolders `train` and `val` (also `valid`, `validation`, `test`) divide the files; without them, `seed` splits
    them. Images are turned by their EXIF orientation, and transparent ones are laid on white. From a photograph whose
    sides are at least twice `image_size`, squares are cut at several scales, at places that depend on its name; a
    smaller image is resized and cropped at its center to one square.

    Args:
        image_size: side in pixels.
        crops: per photograph; 1 for one square of the whole, at any size.
        val_fraction: share of the files for validation where no subfolders decide.
        on_error: "skip" leaves out files that cannot be read and lists them; "raise" refuses the folder.
        max_pixels: of a file; larger ones cannot be read.
        max_value: white of files with more than 8 bits; "auto": 65535 of integers, or what their TIFF says, and 1 of
            floats. Files that have larger values cannot be read.
    """

    root: str
    image_size: int
    crops: int
    val_fraction: float
    on_error: str
    # With defaults, because the configurations of older sweeps lack them.
    max_pixels: int = MAX_PIXELS
    max_value: float | str = "auto"

    def decode(self) -> Images:
        """Decode all files, or load them from the cache if they have not changed."""
        if self.on_error not in ("skip", "raise"):
            raise ValueError(f"on_error {self.on_error!r} is unknown: use data.on_error=skip or data.on_error=raise")
        if min(self.image_size, self.crops) < 1:
            raise ValueError(f"image_size {self.image_size} and crops {self.crops} must be 1 or more")
        self._check_limits()
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder: give a folder of images with data.root=FOLDER")
        train_folder, val_folder = (_subfolder(root, names) for names in (TRAIN_NAMES, VAL_NAMES))
        if train_folder and val_folder:
            decoded = [self._decode(folder) for folder in (train_folder, val_folder)]
            images = Images(*(StoredImages(part.pixels) for part in decoded))
        else:
            decoded = [self._decode(root)]
            (whole,) = decoded
            images = split(StoredImages(whole.pixels), self.val_fraction, self.seed, whole.counts)
        if self.max_value == "auto":
            _warn_of_narrow_files(root, decoded)
        num_files = sum(count > 0 for part in decoded for count in part.counts)
        self.found = (
            f"{num_files:,} image files: {len(images.train):,} squares of {self.image_size} pixels to train on, "
            f"{len(images.val):,} to validate on"
        )
        return self.hold(images)

    def _check_limits(self) -> None:
        pixels, value = self.max_pixels, self.max_value
        most = 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
        if not isinstance(pixels, int) or not 1 <= pixels <= most:
            raise ValueError(
                f"max_pixels {pixels} is no whole number from 1 to {most}, the most that Pillow opens: "
                f"try data.max_pixels={MAX_PIXELS}"
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "auto" and not (is_number and 0 < float(value) < math.inf):
            raise ValueError(
                f"max_value {value!r} is no number above 0: use data.max_value=auto, or data.max_value=4095 for 12 bits"
            )

    def _decode(self, folder: Path) -> cache.Decoded:
        """Decode the files below one folder to squares of `image_size` pixels."""
        files, failures = list_pictures(folder)
        if failures:
            found = f"{_listed([f'{path}: {reason}' for path, reason in failures.items()])} below {folder}"
            if self.on_error == "raise" or not files:
                raise ValueError(f"cannot look at {found}: mend it, or leave it out with data.on_error=skip")
            warn(f"cannot look at {found}: it is left out")
        if not files:
            raise ValueError(f"{folder} has no image files: give a folder of images with data.root=FOLDER")
        settings = {"image_size": self.image_size, "crops": self.crops}
        limits = {"max_pixels": self.max_pixels, "max_value": self.max_value}
        name = cache.fingerprint(files, **settings, **limits, reader=READER, pillow=PIL.__version__)
        decoded = cache.load(name)
        if decoded is None:
            try:
                decoded = cache.store(name, self._decode_files(files))
            except OSError as error:
                warn(f"decoded images are not cached in {cache.cache_folder()}: {error}")
                decoded = cache.joined(list(self._decode_files(files)))
        if decoded.unreadable:
            found = f"{len(decoded.unreadable)} of {len(files)} image files in {folder} cannot be read "
            found += f"({_listed(decoded.unreadable)})"
            if len(decoded.unreadable) == len(files):
                raise ValueError(f"{found}: none is left; give another folder with data.root=FOLDER")
            if self.on_error == "raise":
                raise ValueError(f"{found}: mend or remove them, or leave them out with data.on_error=skip")
            warn(f"{found}; they are left out")
        if decoded.small:
            warn(
                f"{decoded.small} of {len(files)} images in {folder} are smaller than image_size {self.image_size} and "
                "are enlarged: a smaller data.image_size shows them as they are"
            )
        return decoded

    def _decode_files(self, files: list[Path]) -> Iterator[cache.Decoded]:
        """Decode in threads, since Pillow releases the lock, piece by piece, with a progress bar on a terminal."""
        memory = _Memory(int(MAX_SHARE_OF_MEMORY * free_memory(torch.device("cpu"))))
        max_value = None if self.max_value == "auto" else float(self.max_value)

        def decode(file: Path) -> Squares | Unreadable:
            try:
                return read_squares(
                    file,
                    self.image_size,
                    self.crops,
                    max_pixels=self.max_pixels,
                    max_value=max_value,
                    hold=memory.hold,
                )
            except Unreadable as error:
                return error
            except MemoryError:
                return Unreadable(file, NO_MEMORY, fleeting=True)

        console = Console(stderr=True)
        size = self.image_size
        length = max(PIECE_LENGTH * (os.cpu_count() or 1), PIECE_BYTES // (3 * size * size * self.crops))
        pieces = [files[start : start + length] for start in range(0, len(files), length)]
        with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = iter(
                track(
                    chain.from_iterable(pool.map(decode, piece) for piece in pieces),
                    description=f"decoding {len(files)} images",
                    total=len(files),
                    console=console,
                    transient=True,
                    disable=not console.is_terminal,
                )
            )
            for piece in pieces:
                yield _piece(piece, list(islice(decoded, len(piece))), size)


def _piece(files: list[Path], found: Sequence["Squares | Unreadable"], size: int) -> cache.Decoded:
    """Put together what was read of some files."""
    squares = [each for each in found if isinstance(each, Squares)]
    failed = [(file, each) for file, each in zip(files, found, strict=True) if isinstance(each, Unreadable)]
    return cache.Decoded(
        pixels=np.concatenate([each.pixels for each in squares]) if squares else np.empty((0, 3, size, size), np.uint8),
        counts=[len(each.pixels) if isinstance(each, Squares) else 0 for each in found],
        small=sum(each.enlarged for each in squares),
        unreadable=[
            f"{file}: {error.reason}" + (f", or set {error.setting}" if error.setting else "") for file, error in failed
        ],
        fleeting=any(error.fleeting for _, error in failed),
        peaks=[max([each.peaks[channel] for each in squares], default=0) for channel in range(2)],
    )


def _warn_of_narrow_files(root: Path, decoded: Sequence[cache.Decoded]) -> None:
    """Tell of 16-bit files that use the lowest part of their range only, as those of 12-bit cameras do."""
    gray, color = (max(part.peaks[channel] for part in decoded) for channel in range(2))
    if not 0 < max(gray, color) < NARROW * WHITE:
        return
    advice = f"data.max_value={2 ** max(gray, color).bit_length() - 1} makes them bright"
    if color:
        advice = "convert those in color to 8 bits" + (f", and {advice}" if gray else "")
    warn(
        f"the largest value in the 16-bit files in {root} is {max(gray, color)} of {WHITE}, so that they are nearly "
        f"black: {advice}"
    )


def _listed(entries: Sequence[str]) -> str:
    return "; ".join(entries[:LISTED]) + ("; ..." if len(entries) > LISTED else "")


class _Memory:
    """Bytes that threads share; one that needs more than there are waits until all are free."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        amount = min(wanted, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


class Squares(NamedTuple):
    """Squares of one file, uint8 RGB `(n, 3, size, size)`, and whether the file was enlarged.

    `peaks` are the largest numbers in it, if it is one of 16 bits in gray, and in color, in [0, 65535].
    """

    pixels: np.ndarray
    enlarged: bool
    peaks: tuple[int, int]


def read_squares(
    file: Path,
    size: int,
    crops: int,
    *,
    max_pixels: int = MAX_PIXELS,
    max_value: float | None = None,
    hold: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> Squares:
    """Read a file as upright squares: one of the whole, or several crops if its sides are at least `2 * size`.

    Args:
        max_pixels, max_value, hold: as `open_picture` has them.

    Raises:
        Unreadable: if the file cannot be read.
    """
    least = size * (LARGEST_SPAN if crops > 1 else 2)
    photograph, *peaks = open_picture(file, least, max_pixels=max_pixels, max_value=max_value, hold=hold)
    gray_peak, color_peak = peaks
    side = min(photograph.size)
    if crops > 1 and side >= 2 * size:
        rng = np.random.default_rng(crc32(os.fsencode(file.name)))
        spans = max(size, side / LARGEST_SPAN), side
        return Squares(cut_crops(photograph, size, spans, crops, rng), False, (gray_peak, color_peak))
    square = ImageOps.fit(photograph, (size, size), Image.Resampling.LANCZOS)
    pixels = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))[None]
    return Squares(pixels, side < size, (gray_peak, color_peak))
