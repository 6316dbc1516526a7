"""Read mutated pictures as folder, lens and reconstruct do: SEED COUNT FOLDER; prints what came of them as JSON."""

import io
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from losslens.data.folder import read_squares
from losslens.data.pictures import as_images, quiet_pillow
from losslens.lens.picture import read_picture

SIZE = 16
BORING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
WRITTEN = [
    *(("png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("jpg", mode, {"progressive": progressive}) for mode in ("L", "RGB", "CMYK") for progressive in (False, True)),
    *(("tiff", mode, {}) for mode in ("L", "RGB", "I;16", "F", "LAB")),
    *(("tiff", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    *(("webp", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (False, True)),
    *((ending, "RGB", {}) for ending in ("avif", "bmp", "dds", "gif", "ico", "jp2", "pcx", "ppm", "qoi", "sgi", "tga")),
]


def pictures() -> list[tuple[str, bytes]]:
    """Write a picture in many formats, with an EXIF where they have one."""
    across, down = np.meshgrid(np.arange(48), np.arange(40))
    color = Image.fromarray(np.stack([across * 5, down * 6, (across * down) % 256], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    written = []
    for ending, mode, settings in WRITTEN:
        content = io.BytesIO()
        image = color.convert("L") if mode in ("I;16", "F", "LAB") else color.convert(mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image, np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(np.asarray(image, np.float32) / 255)
        elif mode == "LAB":
            image = Image.merge("LAB", color.split())
        format = Image.registered_extensions()[f".{ending}"]
        if ending in ("jpg", "webp", "png", "avif"):
            settings = {**settings, "exif": exif}
        image.save(content, format, **settings)
        written.append((ending, content.getvalue()))
    return written


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes, mostly of the header, or cut, repeat or leave out a part."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(min(len(changed), rng.choice((32, 128, len(content)))))
        kind = rng.randrange(8)
        if kind == 0:
            del changed[rng.randrange(1, len(changed)) :]
        elif kind == 1:
            del changed[place : place + rng.randrange(1, 64)]
        elif kind == 2:
            changed[place:place] = changed[place : place + rng.randrange(1, 64)]
        elif kind == 3:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 4:
            changed[place : place + 4] = bytes([rng.choice(BORING)] * 4)
        else:
            changed[place] = rng.choice((*BORING, rng.randrange(256)))
        if len(changed) < 2:
            break
    return bytes(changed)


def faults(path: Path, one_line: str) -> Iterator[str]:
    """Read a file in all three ways, and say what is wrong with what comes back."""
    accepted = []
    for name, read in (("folder", folder), ("lens", lens), ("reconstruct", reconstruct)):
        started = time.monotonic()
        try:
            pixels, expected = read(path)
            accepted.append(name)
            if pixels.shape != expected or not (pixels.min() >= 0 and pixels.max() <= 1):
                yield f"{name}: {pixels.shape}, from {pixels.min()} to {pixels.max()}"
        except ValueError as error:
            if one_line not in str(error) or "\n" in str(error):
                yield f"{name}: {error}"
        except Exception as error:
            yield f"{name}: {type(error).__name__} {error}"
        if time.monotonic() - started > 60:
            yield f"{name}: took {time.monotonic() - started:.0f} s"
    if len(accepted) in (1, 2):
        yield f"only {accepted} read it"


def folder(path: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    pixels = read_squares(path, SIZE, 2).pixels
    return pixels / 255, (2 if len(pixels) == 2 else 1, 3, SIZE, SIZE)


def lens(path: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    image = read_picture(str(path), SIZE)[0].numpy()
    height, width = image.shape[-2:]
    return image, (1, 3, min(height, SIZE), min(width, SIZE))


def reconstruct(path: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    image = as_images(path).numpy()
    return image, (1, 3, *image.shape[-2:])


def main(seed: int, count: int, place: Path) -> None:
    """Read mutated pictures, and print the wrong ones, how many were read and refused, and the memory."""
    rng = random.Random(seed)
    written, wrong, read = pictures(), {}, 0
    with quiet_pillow():
        for index in range(count):
            ending, content = written[index % len(written)]
            path = place / f"{index}.{ending}"
            path.write_bytes(mutate(content, rng))
            found = list(faults(path, f"{path} cannot be read ("))
            if found:
                wrong[path.name] = found
            try:
                read_squares(path, SIZE, 1)
                read += 1
            except ValueError:
                pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"wrong": wrong, "read": read, "refused": count - read, "bytes": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
