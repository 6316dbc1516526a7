"""Plots of studies as SVG."""

from collections.abc import Callable, Mapping

import matplotlib as mpl
from matplotlib.figure import Figure

from losslens.lens.changes import ISOLUMINANT
from losslens.pictures.svg import COLORS, INK, STYLE, to_svg
from losslens.study.study import CodeStudy, Study
from losslens.sweep.results import SweepResult

SIZES: dict[str, Callable[[CodeStudy], float]] = {
    "R² of mean chroma": lambda codes: codes.probe.r2,
    "Recall at equal luma": lambda codes: codes.recall["euclidean"][ISOLUMINANT].at_1,
}


def code_sizes(sweep: SweepResult, studies: Mapping[str, Study]) -> dict[str, str]:
    """Plot the color that codes keep over their size: a line per loss, dashed for untrained encoders; SVG by title.

    Variants of one loss and size, such as seeds, are averaged. Empty if all codes have one size, or if the variants
    were not shown the same images.
    """
    sizes = {study.codes.size for study in studies.values()}
    if len(sizes) < 2 or len({id(study.exhibits) for study in studies.values()}) > 1:
        return {}
    losses = dict.fromkeys(sweep.variants[name].own_loss for name in studies)
    charts = {}
    for title, read in SIZES.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(4.5, 2.8), layout="constrained")
            axis = figure.subplots()
            for color, loss in zip(_cycle(len(losses)), losses, strict=True):
                own = [study for name, study in studies.items() if sweep.variants[name].own_loss == loss]
                axis.plot(*_means([(each.codes.size, read(each.codes)) for each in own]), "o-", color=color, label=loss)
            points = [(each.untrained_codes.size, read(each.untrained_codes)) for each in studies.values()]
            axis.plot(*_means(points), "o--", color=INK, linewidth=1, markersize=3, label="untrained")
            axis.set(xlabel="numbers in a code", xscale="log")
            axis.grid(alpha=0.25, color=INK, linewidth=0.5)
            axis.legend(frameon=False, fontsize=8)
            charts[title] = to_svg(figure, title)
    return charts


def _means(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    sizes = sorted({size for size, _ in points})
    values = [[value for size, value in points if size == wanted] for wanted in sizes]
    return sizes, [sum(each) / len(each) for each in values]


def _cycle(count: int) -> list[str]:
    return [COLORS[place % len(COLORS)] for place in range(count)]
