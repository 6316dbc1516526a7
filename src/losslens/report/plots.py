"""Plots of a report as SVG, in the colors of the page that they stand in."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from torch import Tensor

from losslens.report.results import VariantResult
from losslens.training.clouds import DOTS_PER_INCH, color_clouds

INK = "#010203"  # stands for the page's own color of text, dark on light or light on dark
# Okabe and Ito 2008, for color-blind readers.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999")
DASHES = ("", "4 2", "1 1.5", "6 2 1 2")  # lengths of lines and gaps, in their widths; the first is solid
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
}
CURVES = {
    "val/loss": "Own loss",
    "val/seen_error": "Error in what the loss sees",
    "val/unseen_error": "Error in what it does not see",
}


def line_styles(variants: Sequence[VariantResult]) -> list[tuple[str, str]]:
    """Choose a color for each loss, and dashes that tell apart the variants of one loss; as SVG writes them."""
    losses = list(dict.fromkeys(variant.own_loss for variant in variants))
    styles = []
    for index, variant in enumerate(variants):
        place = losses.index(variant.own_loss)
        earlier = sum(other.own_loss == variant.own_loss for other in variants[:index])
        dashes = place // len(COLORS) + earlier  # more losses than colors begin with other dashes
        styles.append((COLORS[place % len(COLORS)], DASHES[dashes % len(DASHES)]))
    return styles


def curves(variants: Sequence[VariantResult]) -> dict[str, str]:
    """Draw own losses and errors over the steps of training, a line for each variant; charts by their titles."""
    charts = {}
    for name, title in CURVES.items():
        if not any(name in row for variant in variants for row in variant.curves):
            continue
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(3.9, 2.5), layout="constrained")
            axis = figure.subplots()
            for variant, (color, dashes) in zip(variants, line_styles(variants), strict=True):
                points = [(row["step"], row[name]) for row in variant.curves if name in row]
                if points:
                    lengths = [float(part) for part in dashes.split()]
                    style = (0, lengths) if lengths else "-"
                    axis.plot(*zip(*points, strict=True), color=color, linestyle=style, marker=".", markersize=4)
            axis.set(xlabel="step", ylim=(0, 1.05 * axis.get_ylim()[1]))
            axis.grid(alpha=0.25, color=INK, linewidth=0.5)
            charts[title] = _svg(figure, name)
    return charts


def clouds(originals: Tensor, reconstructions: Tensor, name: str) -> str:
    """Draw the color clouds of a variant, of images float `(N, 3, H, W)` in [0, 1], side by side."""
    with mpl.rc_context(STYLE):
        return _svg(color_clouds(originals, reconstructions, INK), name)


def _svg(figure: Figure, salt: str) -> str:
    """Write a figure as an element of a page; names inside of it differ from those of other salts."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(
            text, format="svg", dpi=DOTS_PER_INCH, facecolor="none", metadata={"Date": None, "Creator": None}
        )
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
