"""The table at the end of a sweep: a row a variant, a column a metric."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from losslens.training.fit import Outcome
from losslens.training.metrics import METRICS

DECIMALS = {"psnr": 1, "color_rank": 2}
HEADERS = {"color_rank": "rank"}


def print_results(console: Console, outcomes: Mapping[str, Outcome], commands: Sequence[str]) -> None:
    """Print every variant's metrics, what its own loss sees marked, and the commands that show more."""
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption="* seen by the variant's own loss", caption_justify="left"
    )
    table.add_column("variant", overflow="fold")
    for metric in METRICS:
        table.add_column(HEADERS.get(metric, metric), justify="right", no_wrap=True)
    for name, outcome in outcomes.items():
        cells = []
        for metric in METRICS:
            cell = f"{outcome.metrics[metric]:.{DECIMALS.get(metric, 3)}f}"
            cells.append(f"[bold green]{cell}*[/]" if metric in ("loss", *outcome.seen) else f"{cell} ")
        table.add_row(name.replace("[", r"\["), *cells)
    console.print(table)
    for command in commands:
        console.print(command, markup=False, highlight=False, soft_wrap=True)
