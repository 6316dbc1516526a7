"""Colors as clouds of points in the RGB cube."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from mpl_toolkits.mplot3d.proj3d import proj_transform
from PIL import Image
from torch import Tensor

from losslens.pictures.grid import evenly
from losslens.pictures.svg import DOTS_PER_INCH, INK, STYLE, to_svg

CLOUD_SIZE = 2000  # pixels in a cloud
POINT_SIZE = 2.5  # square of the diameter, in points
DRAWING = Lock()  # Matplotlib's settings are those of all threads
FINER = 3  # pixels drawn for each that is shown, along each side


def color_clouds(originals: Tensor, reconstructions: Tensor, ink: str = "black") -> Figure:
    """Draw the same pixels of both, each in its own color, as points in two RGB cubes side by side.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1]; so are the reconstructions.
        ink: color of axes and text.
    """
    return _cubes({"originals": _pixels(originals), "reconstructions": _pixels(reconstructions)}, ink)


def _cubes(clouds: Mapping[str, np.ndarray | None], ink: str) -> Figure:
    """Draw RGB cubes side by side, by title, with points `(CLOUD_SIZE, 3)` or without."""
    figure = Figure(figsize=(5.2, 2.6))
    figure.subplots_adjust(left=0, right=0.93, bottom=0.04, top=0.9, wspace=0.08)
    for place, (title, pixels) in enumerate(clouds.items(), start=1):
        axis: Any = figure.add_subplot(1, 2, place, projection="3d", computed_zorder=False)
        if pixels is not None:
            axis.scatter(*pixels.T, c=pixels, s=POINT_SIZE, alpha=1.0, linewidths=0, rasterized=True)
        axis.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1), xticks=(0, 1), yticks=(0, 1), zticks=(0, 1), facecolor="none")
        axis.set_title(title, y=1.0, color=ink)
        for line, label in ((axis.xaxis, "red"), (axis.yaxis, "green"), (axis.zaxis, "blue")):
            line.set_label_text(label, color=ink)
            line.labelpad = -8
            line.set_tick_params(pad=-3, labelcolor=ink)
            line.set_pane_color((0, 0, 0, 0))
            line.line.set_color(ink)
    return figure


def clouds_svg(originals: Tensor, reconstructions: Tensor, salt: str) -> str:
    """Draw what `color_clouds` does as an SVG element in the colors of its page, the points as a picture within it.

    The cubes are drawn by Matplotlib once, which takes longer than all points of a large sweep.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1]; so are the reconstructions.
        salt: makes ids different from those of other figures.
    """
    with DRAWING:
        svg, projections, (width, height) = _empty_cubes()
    scale = FINER * DOTS_PER_INCH / 72
    layer = np.zeros((round(height * scale), round(width * scale), 4), np.uint8)
    radius = scale * POINT_SIZE**0.5 / 2
    square = np.mgrid[-int(radius) : int(radius) + 1, -int(radius) : int(radius) + 1].reshape(2, -1)
    rows, columns = square[:, (square**2).sum(0) <= radius**2]  # of a point, around its center
    for (matrix, place), images in zip(projections, (originals, reconstructions), strict=True):
        pixels = _pixels(images)
        x, y, depth = proj_transform(*pixels.T, matrix)
        across, up = (scale * place.transform(np.column_stack([x, y]))).round().astype(int).T
        nearer = np.argsort(-depth, kind="stable")  # the last to be drawn covers others
        down = layer.shape[0] - up[nearer, None] + rows
        opaque = np.column_stack([255 * pixels, np.full(len(pixels), 255)]).round().astype(np.uint8)
        layer[down, across[nearer, None] + columns] = opaque[nearer, None]
    encoded = io.BytesIO()
    Image.fromarray(layer).reduce(FINER).save(encoded, format="PNG", compress_level=2)
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    picture = f'<image width="{width:g}" height="{height:g}" href="data:image/png;base64,{data}"/>'
    own = hashlib.sha256(salt.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="|href="#|url\(#', rf"\g<0>c{own}-", svg)
    return svg.replace("</svg>", f"{picture}</svg>")


@cache
def _empty_cubes() -> tuple[str, list[Any], tuple[float, float]]:
    """Draw both cubes without points; return SVG, for each the projection and its place in points, and the size."""
    with mpl.rc_context(STYLE):
        figure = _cubes({"originals": None, "reconstructions": None}, INK)
        svg = to_svg(figure, "cubes")
    to_points = Affine2D().scale(72 / figure.dpi)
    axes: list[Any] = figure.axes
    width, height = figure.get_size_inches()
    return svg, [(axis.get_proj(), axis.transData.frozen() + to_points) for axis in axes], (72 * width, 72 * height)


def _pixels(images: Tensor) -> np.ndarray:
    """Choose pixels of images, `(CLOUD_SIZE, 3)`."""
    colors = images.movedim(1, -1).reshape(-1, 3)
    pixels: np.ndarray = colors[evenly(len(colors), CLOUD_SIZE)].cpu().numpy()
    return pixels


def to_picture(figure: Figure) -> Image.Image:
    """Draw a figure as a picture on white."""
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=DOTS_PER_INCH)
    return Image.open(encoded).convert("RGB")
