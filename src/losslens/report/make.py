"""Make all that a sweep shows, from its folders; what studies trained variants needs their data."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from losslens.files import write, write_json
from losslens.report.baselines import measure_baselines
from losslens.report.page import write_page
from losslens.report.results import SweepResult
from losslens.report.shared import Shared, decoded
from losslens.report.sheet import films, write_progress, write_sheets
from losslens.report.study import Study, study_sweep
from losslens.report.tensorboard import write_sweep_run

Makers = dict[str, Callable[[], list[Path] | None]]


def make_report(
    sweep: SweepResult, *, details: bool = False, study: bool = True, shared: Shared | None = None
) -> tuple[list[Path], list[str]]:
    """Write results, sheets, the sweep's TensorBoard run and the report into the sweep's folder.

    What cannot be written does not keep the rest from being written.

    Args:
        sweep: as it is now; it may still run.
        details: whether to write sheets with errors and with what each loss sees, too.
        study: whether to study trained variants, which takes their data.
        shared: what was made of the data already.

    Returns:
        The pages and pictures to look at, and what went wrong.
    """
    folder = sweep.folder
    known = Shared() if shared is None else shared
    alone = any(variant.folder.resolve() == folder.resolve() for variant in sweep.variants.values())
    pictured = any(variant.picture_steps for variant in sweep.variants.values())
    studies: dict[str, Study] = {}
    notes: list[str] = []

    def drawn() -> list[dict[int, Image.Image]]:
        made: list[dict[int, Image.Image]] = known.get("films", lambda: films(sweep))
        return made

    measuring: Makers = {}
    if study:
        import sklearn.linear_model  # noqa: F401, whose libraries are to be there when they are limited

        measuring["study of codes and colors"] = lambda: studies.update(study_sweep(sweep, known, notes.append))
        measuring["baselines"] = lambda: measure_baselines(sweep, lambda data: decoded(data, known))
    if pictured:
        measuring["progress.webp"] = lambda: write_progress(drawn(), folder)
        if not alone:  # its folder is a variant's run already
            measuring["TensorBoard run of the sweep"] = lambda: write_sweep_run(drawn(), folder)
    _, errors = _attempt(measuring)

    showing: Makers = {"results.csv, results.json": lambda: write_results(sweep, folder)}
    if pictured:
        showing["sheet.png"] = lambda: write_sheets(sweep, folder)
        if details:
            showing["details.png"] = lambda: write_sheets(sweep, folder, details=True)
    showing["report.html"] = lambda: [write_page(sweep, studies, notes, folder)]
    shown, further = _attempt(showing)
    return shown, errors + further


def _attempt(makers: Makers) -> tuple[list[Path], list[str]]:
    """Make things at once, by name; returns what is to be looked at, and what went wrong."""
    shown: dict[str, list[Path]] = {}
    errors: dict[str, str] = {}

    def attempt(what: str) -> None:
        try:
            shown[what] = makers[what]() or []
        except Exception as error:  # a finished training does not fail for want of a picture
            errors[what] = f"no {what}: {type(error).__name__}: {error}"

    pool = ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(1, user_api="blas"), pool:  # more threads for each would take longer
        list(pool.map(attempt, makers))
    paths = [path for what in makers for path in shown.get(what, [])]
    return paths, [errors[what] for what in makers if what in errors]


def write_results(sweep: SweepResult, folder: Path) -> None:
    """Write `results.csv` and `results.json`, a row a variant, and below them those of baselines."""
    rows = [*sweep.rows, *(baseline.row for baseline in sweep.baselines)]
    table = pd.DataFrame(rows).set_index("variant")
    write(folder / "results.csv", lambda aside: table.to_csv(aside))
    write_json(folder / "results.json", rows)
