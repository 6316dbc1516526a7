"""Read pictures of any format, size and mode, and list those below a folder."""

import errno
import logging
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from losslens.console import joined_lines

READER = 1  # version: another one decodes folders again
MAX_PIXELS = 89_478_485  # as many as Pillow opens without a warning; a picture of more is refused before it is decoded
DECODING_BYTES = 20  # a pixel, with what the decoders of JPEG 2000 and WebP hold
LARGE = 2**24  # pixels, from which a picture is reduced while it is converted
STRIP = 2**20  # pixels that are converted at once
WHITE = 65535  # of integers with more than 8 bits, unless the file says how many bits they have
ROUNDING = 1e-6  # of floats that were computed
NO_MEMORY = "it needs more memory than there is: reduce it first"
NOT_DECODED = {"EPS", "MPEG"}  # by another program, with code in the file; not at all
# Folders of copies that file managers, archives and notebooks make and do not show; other hidden ones begin with a dot.
COPIES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}


class Picture(NamedTuple):
    """An upright RGB picture, and the largest number in a file of 16 bits.

    `gray_peak` and `color_peak` are in [0, 65535]; 0 of files of another depth.
    """

    image: Image.Image
    gray_peak: int = 0
    color_peak: int = 0


class Unreadable(ValueError):
    """A file cannot be read as a picture.

    Args:
        setting: of `data=folder`, with which it may be read.
        fleeting: the same file may be readable the next time.
    """

    def __init__(self, path: Path | str, reason: str, setting: str | None = None, fleeting: bool = False) -> None:
        super().__init__(f"{path} cannot be read ({reason})")
        self.reason = reason
        self.setting = setting
        self.fleeting = fleeting


class _Refused(ValueError):
    """What a file holds is no picture; `setting` as in `Unreadable`."""

    def __init__(self, reason: str, setting: str | None = None) -> None:
        super().__init__(reason)
        self.setting = setting


def open_picture(
    path: Path | str,
    least: int | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    max_value: float | None = None,
    hold: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> Picture:
    """Read a file as an upright RGB picture, transparent pixels laid on white.

    The scale is that of the type: 8 or 16 bits, the bits that a TIFF names, floats in [0, 1].

    Args:
        path: a regular file, in any format that Pillow decodes.
        least: pixels; a JPEG or a large picture may be read at a reduced size whose sides are at least this. None: at
            its own size.
        max_pixels: of the file.
        max_value: white of files with more than 8 bits, in place of that of their type.
        hold: takes bytes, and waits until they are free.

    Raises:
        Unreadable: whatever is wrong with it.
    """
    try:
        place = Path(path).expanduser()
        kind = place.stat().st_mode
        if not stat.S_ISREG(kind):
            raise _Refused("it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")
        # Given a path, Pillow maps some files into memory, and a mapped file that shrinks ends the process.
        with place.open("rb") as file, Image.open(file, formats=_formats_for(place)) as opened:
            _check_size(opened, max_pixels)
            with hold(DECODING_BYTES * opened.width * opened.height):
                return _decode(opened, least, max_pixels, max_value)
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        raise _unreadable(path, error, max_pixels) from error


def as_images(picture: Path | str | Image.Image | Tensor | np.ndarray) -> Tensor:
    """Convert a picture to images.

    Args:
        picture: a file; a Pillow image; an array `(H, W, 3)`; or a tensor `(3, H, W)` or `(N, 3, H, W)`. Arrays and
            tensors are uint8, or float in [0, 1].

    Returns:
        Float32 `(N, 3, H, W)` in [0, 1].

    Raises:
        ValueError: if a file cannot be read, or numbers are of another shape, type or range.
    """
    if isinstance(picture, str | Path):
        with quiet_pillow():
            picture = np.array(open_picture(picture).image)
    if isinstance(picture, Image.Image):
        picture = np.array(_upright(to_rgb(picture), picture))
    images = (
        torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0) if isinstance(picture, np.ndarray) else picture
    )
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"picture has shape {tuple(picture.shape)}: give an array (H, W, 3) or a tensor (3, H, W) or (N, 3, H, W)"
        )
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"picture is {images.dtype}, from {images.min()} to {images.max()}: give uint8, or [0, 1]")
    return images.float()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow's to RGB: 16 bits to 8, Lab by its profile, transparent pixels laid on white.

    Raises:
        ValueError: for numbers outside of the range of their type, and those that are not finite.
    """
    return _convert(image, None, 1).image


class Listing(NamedTuple):
    """Files with the ending of a picture, sorted, and what could not be looked at, with the reason."""

    files: list[Path]
    failures: dict[Path, str]


def list_pictures(folder: Path) -> Listing:
    """List the pictures below a folder, also through links; hidden files and folders are none of them.

    Every folder is entered once, so that loops of links end; one that is in the tree itself is entered there.
    """
    files: list[Path] = []
    failures: dict[Path, str] = {}

    def fail(error: OSError) -> None:
        failures[Path(error.filename or folder)] = error.strerror or str(error)

    seen = {_identity(parent) for parent in folder.resolve().parents}
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for top, names, inside in os.walk(waiting.pop(0), onerror=fail):
            identity = _identity(top)
            names[:] = [] if identity in seen else sorted(name for name in names if _is_shown(name))
            if identity in seen:
                continue
            seen.add(identity)
            links += [Path(top, name) for name in names if os.path.islink(os.path.join(top, name))]
            for name in inside:
                try:
                    if is_picture_name(name) and stat.S_ISREG(os.stat(os.path.join(top, name)).st_mode):
                        files.append(Path(top, name))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # a link that leads nowhere
                        fail(error)
        waiting += links
    return Listing(sorted(files), failures)


def is_picture_name(name: str) -> bool:
    """Return whether a file of that name is shown, and has the ending of a format that is read."""
    return _is_shown(name) and os.path.splitext(name)[1].lower() in _endings()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress what Pillow says about odd files: they are read, or the error says why not."""
    logger = logging.getLogger("PIL")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in COPIES


def _identity(folder: Path | str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


@cache
def _endings() -> dict[str, str]:
    """Return the format of every ending that Pillow can decode; it also has some that it only writes or recognizes."""
    endings = Image.registered_extensions()
    readable = {"MPO"}  # by the format JPEG
    for name, (factory, _) in Image.OPEN.items():
        if not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)):
            readable.add(name)
    return {ending: name for ending, name in endings.items() if name in readable - NOT_DECODED}


def _formats_for(path: Path) -> list[str]:
    """List the formats that a file may have: its ending may lie, but some are recognized by nothing else."""
    known, own = set(_endings().values()), _endings().get(path.suffix.lower())
    return [name for name in Image.ID if name in known and (name == own or Image.OPEN[name][1] is not None)]


def _check_size(opened: Image.Image, max_pixels: int) -> None:
    width, height = opened.size
    if min(width, height) < 1:
        raise _Refused(f"its size is {width}x{height}")
    if width * height > max_pixels:
        raise _Refused(
            f"its {width}x{height} pixels are more than {max_pixels:,}: reduce it first", "data.max_pixels=NUMBER"
        )


def _decode(opened: ImageFile.ImageFile, least: int | None, max_pixels: int, max_value: float | None) -> Picture:
    deep_color = ";16" in str(opened.tile) and not opened.mode.startswith("I")
    if deep_color and max_value not in (None, WHITE):
        raise _Refused(f"of its 16-bit colors Pillow keeps 8 bits, too few for white at {max_value:g}: convert it")
    if least is not None:
        opened.draft(None, (least, least))
    opened.load()
    _check_size(opened, max_pixels)  # a frame may be larger than its file says
    large = opened.width * opened.height > LARGE
    factor = max(1, min(opened.size) // least) if least and large else 1
    image, gray_peak, color_peak = _convert(opened, max_value, factor)
    return Picture(_upright(image, opened), gray_peak, color_peak * 257 if deep_color else 0)


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    """Turn what was made of an image as its EXIF says; other entries there may be damaged."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation == 1:
        return rgb
    rgb.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(rgb)


def _convert(image: Image.Image, max_value: float | None, factor: int) -> Picture:
    """Convert to RGB strip by strip, reduced by a whole factor, so that at most one picture of full size is held."""
    numbers = _numbers(image, max_value)
    width, height = image.size
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, STRIP // width // factor) * factor
    gray_peak = color_peak = 0
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        if numbers:
            strip, peak = _gray(strip, numbers)
            gray_peak = max(gray_peak, peak)
        else:
            strip = _color(strip)
            color_peak = max(color_peak, *(int(high) for _, high in strip.getextrema()))  # type: ignore[misc]
        rgb.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return Picture(rgb, gray_peak, color_peak)


class _Numbers(NamedTuple):
    """What the numbers of a gray picture with more than 8 bits mean."""

    white: float
    inverted: bool
    dtype: str | None  # of Pillow's bytes; None if it knows


def _numbers(image: Image.Image, max_value: float | None) -> _Numbers | None:
    """Say what the numbers of a picture mean, by its type alone; None for 8 bits, of which Pillow knows it."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    signed = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # Pillow inverts up to 8 bits only
    if signed and image.mode == "L":
        return _Numbers(127, False, "int8")
    if image.mode == "F":
        return _Numbers(max_value or 1, inverted, None)
    if not image.mode.startswith("I"):
        return None
    if image.format == "FITS":
        raise _Refused("Pillow ignores the offset of integers in FITS: convert it")
    return _Numbers(max_value or (2 ** (bits - signed) - 1 if bits < 32 else WHITE), inverted, None)


def _gray(strip: Image.Image, numbers: _Numbers) -> tuple[Image.Image, int]:
    """Convert numbers to RGB; the second value is the largest one of integers."""
    values = np.asarray(strip)
    if numbers.dtype:
        values = values.view(numbers.dtype)
    low, high = float(values.min()), float(values.max())  # NaN if any number is
    if not math.isfinite(low + high):
        raise _Refused("some of its numbers are not finite")
    rounding = ROUNDING * numbers.white if strip.mode == "F" else 0
    if not (low >= -rounding and high <= numbers.white + rounding):
        kind = "floats" if strip.mode == "F" else "integers"
        raise _Refused(
            f"its {kind} are not all from 0 to {numbers.white:g} but from {low:g} to {high:g}", "data.max_value=NUMBER"
        )
    share = values.astype(np.float64) / numbers.white
    shades = ((1 - share if numbers.inverted else share) * 255).clip(0, 255).round().astype(np.uint8)
    peak = int(high) if numbers.white == WHITE and strip.mode != "F" else 0
    return Image.fromarray(shades).convert("RGB"), peak


def _color(image: Image.Image) -> Image.Image:
    """Convert a mode of 8 bits to RGB."""
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


def _unreadable(path: Path | str, error: Exception, max_pixels: int) -> Unreadable:
    """Say why a file cannot be read."""
    reason = joined_lines(error)
    if isinstance(error, _Refused):
        return Unreadable(path, reason, error.setting)
    if isinstance(error, MemoryError):
        return Unreadable(path, NO_MEMORY, fleeting=True)
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable(path, f"it has more than {max_pixels:,} pixels: reduce it first")
    if isinstance(error, UnidentifiedImageError):
        return Unreadable(path, "its format is none that is read")
    if isinstance(error, OSError) and error.errno:
        # A damaged file may send a decoder to an invalid place; the rest is the disk's, or permissions.
        return Unreadable(path, error.strerror or reason, fleeting=error.errno != errno.EINVAL)
    if not isinstance(error, OSError | ValueError | SyntaxError):
        reason = f"it is damaged: {type(error).__name__} {reason}".rstrip()
    return Unreadable(path, reason or "it is damaged")
