"""The table at the end of a sweep: one row per variant, one column per metric."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from losslens.console import print_table, say
from losslens.sweep.results import SweepResult
from losslens.training.metrics import METRICS

DECIMALS = {"psnr": 1, "color_rank": 2}
HEADERS = {"color_rank": "rank"}


def print_results(console: Console, sweep: SweepResult, commands: Sequence[str]) -> None:
    """Print each variant's metrics (marked: seen by its loss) or why it has none, and commands that show more."""
    variants = list(sweep.variants.values())
    caption = "* seen by the variant's own loss"
    if sweep.baselines:
        caption += "; below the line, what is reached without training"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("variant")
    for metric in METRICS:
        table.add_column(HEADERS.get(metric, metric), justify="right")
    for variant in variants:
        if not variant.done:
            continue
        cells = []
        for metric in METRICS:
            cell = _cell(metric, variant.metrics.get(metric, float("nan")))
            own = metric in ("loss", *variant.results["seen"])
            cells.append(Text(f"{cell}*", "bold green") if own else Text(f"{cell} "))
        table.add_row(Text(variant.name), *cells)
    table.add_section()
    for baseline in sweep.baselines:
        metrics = baseline.metrics
        cells = [Text(_cell(metric, metrics[metric]) + " " if metric in metrics else "") for metric in METRICS]
        table.add_row(Text(baseline.name), *cells)
    print_table(console, table)
    others = [f"{v.name}: {v.status['status']}: {v.status['reason']}" for v in variants if v.status["reason"]]
    for line in [*others, *sweep.left_out, *commands]:
        say(console, line)


def _cell(metric: str, value: float) -> str:
    return f"{value:.{DECIMALS.get(metric, 3)}f}"
