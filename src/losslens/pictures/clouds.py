"""Colors as clouds of points in the RGB cube."""

import io

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from losslens.pictures.grid import evenly

CLOUD_SIZE = 2000  # pixels in a cloud
POINT_SIZE = 2.5
DOTS_PER_INCH = 130


def color_clouds(originals: Tensor, reconstructions: Tensor, ink: str = "black") -> Figure:
    """Draw the same pixels of both, each in its own color, as points in two RGB cubes side by side.

    Args:
        originals: float `(N, 3, H, W)` in [0, 1]; so are the reconstructions.
        ink: color of axes and text.
    """
    figure = Figure(figsize=(5.2, 2.6))
    figure.subplots_adjust(left=0, right=0.93, bottom=0.04, top=0.9, wspace=0.08)
    for place, (title, images) in enumerate((("originals", originals), ("reconstructions", reconstructions)), start=1):
        axis = figure.add_subplot(1, 2, place, projection="3d", computed_zorder=False)
        colors = images.movedim(1, -1).reshape(-1, 3)
        pixels = colors[evenly(len(colors), CLOUD_SIZE)].cpu().numpy()
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


def to_picture(figure: Figure) -> Image.Image:
    """Draw a figure as a picture on white."""
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=DOTS_PER_INCH)
    return Image.open(encoded).convert("RGB")
