"""Losses trained with (rows) x measured with (columns): is each loss best met by the variant trained with it?"""

from dataclasses import dataclass
from statistics import mean, stdev

from losslens.sweep.results import SweepResult, VariantResult, names_without_seeds
from losslens.training.metrics import METRICS
from losslens.variant import config_key

HIGHER_IS_BETTER = ("psnr", "ssim", "seen_psnr")
DIGITS = "#.4g"
NOT_A_QUALITY = ("color_rank",)  # neither higher nor lower is better


@dataclass(frozen=True)
class Cell:
    """Measurements of a row's variants: mean and standard deviation over seeds, and whether the mean is best."""

    mean: float | None
    spread: float | None
    best: bool = False
    own: bool = False


@dataclass(frozen=True)
class Row:
    """Variants that differ only in the seed; only rows of the same `data` are compared."""

    name: str
    own_loss: str
    num_seeds: int
    data: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class CrossTable:
    """Rows of trained variants; columns are losses (`loss/luma`) and metrics (`val/red`)."""

    rows: list[Row]
    columns: list[str]

    @property
    def contests(self) -> dict[str, list[str]]:
        """Sentences, by loss, on the data sets where a row trained with another loss is best.

        Only losses measured both on rows trained with them and on others; an empty list if their own are best or tie.
        """
        found: dict[str, list[str]] = {}
        for column in self.columns:
            loss = column.removeprefix("loss/")
            for data in dict.fromkeys(row.data for row in self.rows):
                rows = [row for row in self.rows if row.data == data and row.cells[column].mean is not None]
                own = [row for row in rows if row.own_loss == loss]
                if not column.startswith("loss/") or not own or len(own) == len(rows):
                    continue
                sentences = found.setdefault(loss, [])
                ours, best = (min(each, key=lambda row: row.cells[column].mean or 0.0) for each in (own, rows))
                left, right = best.cells[column], ours.cells[column]
                assert left.mean is not None
                assert right.mean is not None
                if left.mean == right.mean:
                    continue
                spread = max(left.spread or 0, right.spread or 0)
                remark = ", within the spread of the seeds" if right.mean - left.mean <= spread else ""
                sentences.append(
                    f"Measured with {loss}, the best is {best.name} at {left.mean:{DIGITS}}, "
                    f"trained with {best.own_loss}, and not {ours.name} at {right.mean:{DIGITS}}{remark}."
                )
        return found

    @property
    def upsets(self) -> list[str]:
        """All sentences of `contests`."""
        return [sentence for sentences in self.contests.values() for sentence in sentences]


def cross_table(sweep: SweepResult) -> CrossTable:
    """Average the finished variants of a sweep over seeds, and mark the best of each column."""
    groups: dict[str, list[VariantResult]] = {}
    names = names_without_seeds(sweep)
    for variant in sweep.done:
        groups.setdefault(names[variant.name], []).append(variant)
    losses, metrics = sweep.losses, METRICS[1:]  # the first is the variant's own loss
    measured = {
        name: {f"loss/{each}": _over_seeds([v.results["losses"].get(each) for v in group]) for each in losses}
        | {f"val/{each}": _over_seeds([v.metrics.get(each) for v in group]) for each in metrics}
        for name, group in groups.items()
    }
    rows = []
    data = {name: config_key(group[0].config.get("data")) for name, group in groups.items()}
    for name, group in groups.items():
        cells = {}
        rivals = [measured[other] for other in groups if data[other] == data[name]]
        for column, (average, spread) in measured[name].items():
            own = column == f"loss/{group[0].own_loss}" or column.removeprefix("val/") in group[0].results["seen"]
            best = average is not None and average == _best(column, [each[column][0] for each in rivals])
            cells[column] = Cell(average, spread, best and len(rivals) > 1, own)
        rows.append(Row(name, group[0].own_loss, len(group), data[name], cells))
    return CrossTable(rows, [*(f"loss/{each}" for each in losses), *(f"val/{each}" for each in metrics)])


def _over_seeds(values: list[float | None]) -> tuple[float | None, float | None]:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None, None
    return mean(numbers), stdev(numbers) if len(numbers) > 1 else None


def _best(column: str, means: list[float | None]) -> float | None:
    metric = column.removeprefix("val/")
    numbers = [value for value in means if value is not None]
    if metric in NOT_A_QUALITY or not numbers:
        return None
    return max(numbers) if metric in HIGHER_IS_BETTER else min(numbers)
