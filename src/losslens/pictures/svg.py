"""Drawings as SVG, in the colors of their page."""

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

DOTS_PER_INCH = 130  # for parts drawn as pixels
INK = "#010203"  # placeholder for the page's text color, dark or light
# Okabe and Ito 2008, for color-blind readers.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999")
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
}


def to_svg(figure: Figure, salt: str) -> str:
    """Return a figure as an SVG element; figures of different salts have different ids."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(
            text, format="svg", dpi=DOTS_PER_INCH, facecolor="none", metadata={"Date": None, "Creator": None}
        )
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
