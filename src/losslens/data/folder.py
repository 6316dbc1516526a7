"""Images below a folder, in any mode that Pillow opens, as upright RGB crops of one size."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from PIL import Image, ImageCms, ImageOps
from rich.console import Console
from rich.progress import track

from losslens.console import warn
from losslens.data import cache
from losslens.data.crops import cut_crops
from losslens.data.source import Images, Source, split
from losslens.data.stored import StoredImages

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
LISTED = 3  # unreadable files named in a message
PIECE_BYTES = 2**22  # decoded images written at once
LARGEST_SPAN = 8  # photograph's shorter side over its smallest crop's; smaller crops show hardly anything
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
    """

    root: str
    image_size: int
    crops: int
    val_fraction: float
    on_error: str

    def decode(self) -> Images:
        """Decode all files, or load them from the cache if they have not changed."""
        if self.on_error not in ("skip", "raise"):
            raise ValueError(f"on_error {self.on_error!r} is unknown: use data.on_error=skip or data.on_error=raise")
        if min(self.image_size, self.crops) < 1:
            raise ValueError(f"image_size {self.image_size} and crops {self.crops} must be 1 or more")
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
        num_files = sum(count > 0 for part in decoded for count in part.counts)
        self.found = (
            f"{num_files:,} image files: {len(images.train):,} squares of {self.image_size} pixels to train on, "
            f"{len(images.val):,} to validate on"
        )
        return self.hold(images)

    def _decode(self, folder: Path) -> cache.Decoded:
        """Decode the files below one folder to squares of `image_size` pixels."""
        endings = Image.registered_extensions()
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings and file.is_file())
        if not files:
            raise ValueError(f"{folder} has no image files: give a folder of images with data.root=FOLDER")
        name = cache.fingerprint(files, image_size=self.image_size, crops=self.crops, version=3)
        decoded = cache.load(name)
        if decoded is None:
            try:
                decoded = cache.store(name, _decode_files(files, self.image_size, self.crops))
            except OSError as error:
                warn(f"decoded images are not cached in {cache.cache_folder()}: {error}")
                pieces = list(_decode_files(files, self.image_size, self.crops))
                decoded = cache.Decoded(
                    np.concatenate([piece.pixels for piece in pieces]),
                    [count for piece in pieces for count in piece.counts],
                    sum(piece.small for piece in pieces),
                    [path for piece in pieces for path in piece.unreadable],
                )
        if decoded.unreadable:
            listed = ", ".join(decoded.unreadable[:LISTED]) + (", ..." if len(decoded.unreadable) > LISTED else "")
            found = f"{len(decoded.unreadable)} of {len(files)} image files in {folder} cannot be read ({listed})"
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


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _decode_files(files: list[Path], size: int, crops: int) -> Iterator[cache.Decoded]:
    """Decode in threads (Pillow releases the interpreter lock), piece by piece, with a progress bar on a terminal."""

    def decode(file: Path) -> Squares | None:
        try:
            return read_squares(file, size, crops)
        except Exception:  # Pillow's decoders raise many kinds of errors on damaged files
            return None

    console = Console(stderr=True)
    length = max(PIECE_LENGTH * (os.cpu_count() or 1), PIECE_BYTES // (3 * size * size * crops))
    pieces = [files[start : start + length] for start in range(0, len(files), length)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
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
            found = list(islice(decoded, len(piece)))
            readable = [each for each in found if each is not None]
            yield cache.Decoded(
                np.concatenate([each.pixels for each in readable])
                if readable
                else np.empty((0, 3, size, size), np.uint8),
                [0 if each is None else len(each.pixels) for each in found],
                sum(each.enlarged for each in readable),
                [str(file) for file, each in zip(piece, found, strict=True) if each is None],
            )


class Squares(NamedTuple):
    """Squares of one file, uint8 RGB `(n, 3, size, size)`, and whether the file was enlarged."""

    pixels: np.ndarray
    enlarged: bool


def read_squares(file: Path, size: int, crops: int) -> Squares:
    """Read a file as upright squares: one of the whole, or several crops if its sides are at least `2 * size`.

    Raises:
        Exception: whatever Pillow raises for a file that it cannot read.
    """
    largest = LARGEST_SPAN if crops > 1 else 2
    with Image.open(file) as opened:
        opened.draft(None, (largest * size, largest * size))  # lets JPEG decode at a reduced size, still large enough
        photograph = to_rgb(ImageOps.exif_transpose(opened))
    side = min(photograph.size)
    if crops > 1 and side >= 2 * size:
        rng = np.random.default_rng(crc32(file.name.encode()))
        return Squares(cut_crops(photograph, size, (max(size, side / LARGEST_SPAN), side), crops, rng), enlarged=False)
    square = ImageOps.fit(photograph, (size, size), Image.Resampling.LANCZOS)
    return Squares(np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))[None], enlarged=side < size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow's to RGB: 16 bits to 8, Lab by its profile, transparent pixels laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # Floats are taken as [0, 1] if they fit in there; integers are 16 bits if they do not fit in 8.
        top = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
        if image.mode.startswith("I;16"):
            top = 65535.0
        return Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    if image.has_transparency_data:
        # Pillow cannot convert premultiplied gray with alpha directly.
        opaque = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")
