"""The picture of a sweep: originals above the reconstructions of every variant."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from losslens.training.grid import grid, to_pil

MIN_SIDE = 128  # pixels of an image in the sheet; smaller ones are enlarged by a whole factor
MARGIN = 8


def sheet(originals: Tensor, reconstructions: dict[str, Tensor]) -> Image.Image:
    """Set originals above the reconstructions of every variant, with names at the left.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1].
        reconstructions: float `(N, 3, H, W)` by the variant's name, in the order of the rows.
    """
    rows = {"originals": originals, **reconstructions}
    scale = max(1, -(-MIN_SIDE // originals.shape[-2]))
    enlarged = [row.repeat_interleave(scale, -1).repeat_interleave(scale, -2) for row in rows.values()]
    picture = to_pil(grid(enlarged))
    font = ImageFont.load_default(max(16, originals.shape[-2] * scale // 6))
    left = 2 * MARGIN + round(max(font.getlength(name) for name in rows))
    page = Image.new("RGB", (left + picture.width + MARGIN, picture.height + 2 * MARGIN), "white")
    page.paste(picture, (left, MARGIN))
    draw = ImageDraw.Draw(page)
    row_height = picture.height / len(rows)
    for index, name in enumerate(rows):
        position = (left - MARGIN, MARGIN + (index + 0.5) * row_height)
        draw.text(position, name, fill="black", font=font, anchor="rm")
    return page
