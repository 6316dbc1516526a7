"""Pictures beside each other with their names."""

from collections.abc import Collection, Mapping

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from losslens.pictures.grid import grid, to_pil

MIN_SIDE = 128  # pixels of an image in the sheet; smaller ones are enlarged by a whole factor
MARGIN = 8
STROKE = 1  # pixels around letters, readable even in TensorBoard's thumbnails, which keep one pixel of four
ROWS_ON_A_PAGE = 20
MAX_BESIDE = 4  # pictures in a row
GAP = 8  # pixels between pictures
MAX_FONT = 32


def sheet(originals: Tensor, rows: Mapping[str, Tensor], caption: str = "", faint: Collection[str] = ()) -> Image.Image:
    """Set originals above other rows, with names at the left.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1].
        rows: float `(N, 3, H, W)` by name, from top to bottom.
        caption: replaces the name of the originals' row.
        faint: rows whose names are gray: no variants.
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


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Set pictures of one size beside each other, four in a row, in full size, each below its name."""
    first = next(iter(pictures.values()))
    longest = max(pictures, key=len)
    font = ImageFont.load_default(MAX_FONT)
    if font.getlength(longest) > first.width:  # as large as the narrow picture allows, but legible
        font = ImageFont.load_default(max(10, MAX_FONT * first.width / font.getlength(longest)))
    width = max(first.width, *(round(font.getlength(name)) for name in pictures)) + GAP
    top = round(font.size * 1.5) if isinstance(font, ImageFont.FreeTypeFont) else MAX_FONT
    columns = min(len(pictures), MAX_BESIDE)
    height = top + first.height + GAP
    page = Image.new("RGB", (columns * width + GAP, -(-len(pictures) // columns) * height), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, each) in enumerate(pictures.items()):
        left, above = GAP + place % columns * width, place // columns * height
        draw.text((left + (width - GAP) / 2, above + top / 2), name, fill="black", font=font, anchor="mm")
        page.paste(each, (left + (width - GAP - each.width) // 2, above + top))
    return page
