"""Square crops of photographs, at several scales."""

import numpy as np
from PIL import Image

NUM_SCALES = 4


def shares(total: int, parts: int) -> list[int]:
    """Divide a number into whole parts that differ by one at most."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def cut_crops(
    photograph: Image.Image, size: int, spans: tuple[float, float], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Cut squares at random places.

    Args:
        photograph: RGB; its sides are `size` pixels or more.
        size: side of the crops in pixels.
        spans: smallest and largest side of a crop in pixels of the photograph; between them lie `NUM_SCALES` scales.
        count: number of crops, smallest spans first.

    Returns:
        uint8 `(count, 3, size, size)`.
    """
    crops = []
    for span, share in zip(np.geomspace(*spans, NUM_SCALES), shares(count, NUM_SCALES), strict=True):
        if not share:
            continue
        width, height = (max(size, round(side * size / span)) for side in photograph.size)
        pixels = np.asarray(photograph.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3))
        for _ in range(share):
            left, top = rng.integers(width - size + 1), rng.integers(height - size + 1)
            crops.append(pixels[top : top + size, left : left + size])
    return np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))
