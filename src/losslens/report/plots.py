"""Plots of a report as SVG."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from losslens.pictures.svg import COLORS, INK, STYLE, to_svg
from losslens.sweep.results import VariantResult

# Lengths of dashes and gaps, in widths of the line; the first is solid.
DASHES = ("", "4 2", "1 1.5", "6 2 1 2", "8 2", "2 1", "8 2 2 2", "4 1 1 1 1 1")
CURVES = {
    "val/loss": "Own loss",
    "val/seen_error": "Error in what the loss sees",
    "val/unseen_error": "Error in what it does not see",
}


def line_styles(variants: Sequence[VariantResult]) -> list[tuple[str, str]]:
    """Choose a color for each loss, and dashes that tell apart the variants of one loss, in SVG syntax."""
    losses = list(dict.fromkeys(variant.own_loss for variant in variants))
    styles = []
    for index, variant in enumerate(variants):
        place = losses.index(variant.own_loss)
        earlier = sum(other.own_loss == variant.own_loss for other in variants[:index])
        dashes = place // len(COLORS) + earlier  # losses that share a color start with other dashes
        styles.append((COLORS[place % len(COLORS)], DASHES[dashes % len(DASHES)]))
    return styles


def curves(variants: Sequence[VariantResult]) -> dict[str, str]:
    """Plot own losses and errors over training steps, a line per variant; SVG by title."""
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
            axis.set(xlabel="step", ylim=_from_zero(*axis.get_ylim()))
            axis.grid(alpha=0.25, color=INK, linewidth=0.5)
            charts[title] = to_svg(figure, name)
    return charts


def _from_zero(low: float, high: float) -> tuple[float, float]:
    """Widen the limits of an axis to 0, with room at the other end."""
    return 1.05 * min(low, 0.0), 1.05 * max(high, 0.0)
