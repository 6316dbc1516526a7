"""Trained with (rows) x measured with (columns): does the variant win that was trained with what is measured?"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev

from losslens.report.results import SweepResult, VariantResult
from losslens.training.metrics import METRICS

HIGHER_IS_BETTER = ("psnr", "ssim", "seen_psnr")
DIGITS = "#.4g"
SEEDS = ("seed", "order_seed")  # what differs between the variants of a row
DECISIVE = ("model", "loss", "optimizer", "schedule", "trainer", "data", "callbacks")  # for what a variant learns
NOT_A_QUALITY = ("color_rank",)  # neither more nor less of it is better


@dataclass(frozen=True)
class Cell:
    """What was measured of the variants of a row: mean over seeds, their standard deviation, and whether it is best."""

    mean: float | None
    spread: float | None
    best: bool = False
    own: bool = False


@dataclass(frozen=True)
class Row:
    """Variants that differ in nothing but the seed; only rows of the same `data` are compared."""

    name: str
    own_loss: str
    num_seeds: int
    data: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class CrossTable:
    """Rows by what they were trained with; columns are losses (`loss/luma`) and metrics (`val/red`)."""

    rows: list[Row]
    columns: list[str]

    @property
    def contests(self) -> dict[str, list[str]]:
        """Losses that were measured on rows trained with them and on others; sentences on those that others met best.

        By loss; an empty list where a row that was trained with it is the best, or as good.
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
        """Sentences on the losses of this sweep that were best met by a variant trained with another one."""
        return [sentence for sentences in self.contests.values() for sentence in sentences]


def cross_table(sweep: SweepResult) -> CrossTable:
    """Average the finished variants of a sweep over seeds, and mark the best of each column."""
    groups: dict[str, list[VariantResult]] = {}
    names = names_without_seeds(sweep)
    for variant in sweep.done:
        groups.setdefault(names[variant.name], []).append(variant)
    readers: dict[str, Callable[[VariantResult], float | None]] = {}
    for loss in sweep.losses:
        readers[f"loss/{loss}"] = lambda variant, loss=loss: variant.results["losses"].get(loss)  # type: ignore[misc]
    for metric in METRICS[1:]:  # the first is the variant's own loss
        readers[f"val/{metric}"] = lambda variant, metric=metric: variant.metrics.get(metric)  # type: ignore[misc]
    measured = {
        name: {column: _over_seeds([read(variant) for variant in group]) for column, read in readers.items()}
        for name, group in groups.items()
    }
    rows = []
    data = {name: repr(group[0].config.get("data")) for name, group in groups.items()}
    for name, group in groups.items():
        cells = {}
        rivals = [measured[other] for other in groups if data[other] == data[name]]
        for column, (average, spread) in measured[name].items():
            own = column == f"loss/{group[0].own_loss}" or column.removeprefix("val/") in group[0].results["seen"]
            best = average is not None and average == _best(column, [each[column][0] for each in rivals])
            cells[column] = Cell(average, spread, best and len(rivals) > 1, own)
        rows.append(Row(name, group[0].own_loss, len(group), data[name], cells))
    return CrossTable(rows, list(readers))


def names_without_seeds(sweep: SweepResult) -> dict[str, str]:
    """Name for each finished variant what it has in common with those that differ from it in nothing but seeds.

    Variants of several commands may differ in what is no value of theirs: then each has its own name.
    """
    keys = [key for key in sweep.varied if key not in SEEDS] or ["loss"]
    common, kinds = {}, defaultdict(set)
    for variant in sweep.done:
        name = variant.name
        values = {key: variant.values.get(key) for key in keys}
        common[name] = ",".join(f"{key}={value}" for key, value in values.items() if value is not None) or name
        kinds[common[name]].add(repr([variant.config.get(part) for part in DECISIVE]))
    return {name: shared if len(kinds[shared]) == 1 else name for name, shared in common.items()}


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
