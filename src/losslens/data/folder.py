"""Any tree of images: every mode that Pillow opens, upright, RGB, resized and cropped to one size."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps
from rich.console import Console
from rich.progress import track

from losslens.console import warn
from losslens.data import cache
from losslens.data.source import Images, Source, split
from losslens.data.stored import StoredImages

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
LISTED = 3  # unreadable files named in a message
PIECE_BYTES = 2**22  # of decoded images, which are written at once
PIECE_LENGTH = 4  # images for each core, if that is more: all wait for the last one of a piece


@dataclass(kw_only=True)
class Folder(Source):
    """Images below a folder, sorted by path.

    Subfolders `train` and `val` (also `valid`, `validation`, `test`) say which images are for what; without them,
    `seed` splits. Images are turned as their EXIF orientation says, transparent ones are laid on white, and all are
    resized and cropped at their center to a square.

    Args:
        root: the folder.
        image_size: side in pixels.
        val_fraction: share of the images for validation where no subfolders decide.
        on_error: "skip" leaves out files that cannot be read and lists them; "raise" refuses the folder.
    """

    root: str
    image_size: int
    val_fraction: float
    on_error: str

    def decode(self) -> Images:
        """Decode all files, or find them in the cache if they were decoded before and have not changed."""
        if self.on_error not in ("skip", "raise"):
            raise ValueError(f"on_error {self.on_error!r} is unknown: use data.on_error=skip or data.on_error=raise")
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder: give a folder of images with data.root=FOLDER")
        train_folder, val_folder = (_subfolder(root, names) for names in (TRAIN_NAMES, VAL_NAMES))
        if train_folder and val_folder:
            return self.hold(Images(train=self._decode(train_folder), val=self._decode(val_folder)))
        return self.hold(split(self._decode(root), self.val_fraction, self.seed))

    def _decode(self, folder: Path) -> StoredImages:
        """Decode the files below one folder to uint8 `(N, 3, image_size, image_size)`."""
        endings = Image.registered_extensions()
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings and file.is_file())
        if not files:
            raise ValueError(f"{folder} has no image files: give a folder of images with data.root=FOLDER")
        name = cache.fingerprint(files, image_size=self.image_size, version=2)
        decoded = cache.load(name)
        if decoded is None:
            try:
                decoded = cache.store(name, _decode_files(files, self.image_size))
            except OSError as error:
                warn(f"decoded images are not cached in {cache.cache_folder()}: {error}")
                pixels, unreadable = zip(*_decode_files(files, self.image_size), strict=True)
                decoded = cache.Decoded(np.concatenate(pixels), list(chain.from_iterable(unreadable)))
        if decoded.unreadable:
            listed = ", ".join(decoded.unreadable[:LISTED]) + (", ..." if len(decoded.unreadable) > LISTED else "")
            found = f"{len(decoded.unreadable)} of {len(files)} image files in {folder} cannot be read ({listed})"
            if len(decoded.unreadable) == len(files):
                raise ValueError(f"{found}: none is left; give another folder with data.root=FOLDER")
            if self.on_error == "raise":
                raise ValueError(f"{found}: mend or remove them, or leave them out with data.on_error=skip")
            warn(f"{found}; they are left out")
        return StoredImages(decoded.pixels)


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _decode_files(files: list[Path], size: int) -> Iterator[cache.Decoded]:
    """Decode in threads (Pillow releases the interpreter lock), piece by piece, with a progress bar on a terminal."""

    def decode(file: Path) -> np.ndarray | None:
        try:
            return read_square(file, size)
        except Exception:  # Pillow's decoders raise whatever they like on damaged files
            return None

    console = Console(stderr=True)
    length = max(PIECE_LENGTH * (os.cpu_count() or 1), PIECE_BYTES // (3 * size * size))
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
            images = list(islice(decoded, len(piece)))
            pixels = [image for image in images if image is not None]
            yield cache.Decoded(
                np.stack(pixels) if pixels else np.empty((0, 3, size, size), np.uint8),
                [str(file) for file, image in zip(piece, images, strict=True) if image is None],
            )


def read_square(file: Path, size: int) -> np.ndarray:
    """Read a file as an upright square of uint8 RGB `(3, size, size)`.

    Raises:
        Exception: whatever Pillow raises for a file that it cannot read.
    """
    with Image.open(file) as opened:
        opened.draft(None, (2 * size, 2 * size))  # lets JPEG decode at a reduced size, still twice as large as needed
        upright = ImageOps.exif_transpose(opened)
        square = ImageOps.fit(to_rgb(upright), (size, size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


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
        # Pillow has no direct way from premultiplied gray with alpha.
        opaque = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")
