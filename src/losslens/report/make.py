"""Make the outputs of a sweep from its folders; studies and baselines need the data, too."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from losslens.files import remove_asides, write, write_json
from losslens.report.baselines import measure_baselines
from losslens.report.page import write_page
from losslens.report.sheet import films, write_progress, write_sheets, write_sweep_run
from losslens.study.shared import Shared, decoded
from losslens.study.study import Study, study_sweep
from losslens.sweep.results import SweepResult

SECONDS_OF_A_FILE = 60.0  # longer than any takes to be written, by a process that may be at work meanwhile
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what formulas of spreadsheets begin with

Makers = dict[str, Callable[[], list[Path] | None]]


def make_report(
    sweep: SweepResult, *, details: bool = False, study: bool = True, shared: Shared | None = None
) -> tuple[list[Path], list[str]]:
    """Write results, sheets, the sweep's TensorBoard run and the report into the sweep's folder.

    An output that fails does not stop the others.

    Args:
        sweep: may still be running.
        details: whether to add sheets with errors and with what each loss sees.
        study: whether to study trained variants and measure baselines, which needs the data.
        shared: values that are made already, such as decoded images.

    Returns:
        Paths of pages and pictures to look at, and error messages.
    """
    folder = sweep.folder
    remove_asides(folder, SECONDS_OF_A_FILE)
    sweep, damages = _readable(sweep)
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
        import sklearn.linear_model  # noqa: F401, its libraries must be loaded to be limited below

        measuring["study of codes and colors"] = lambda: studies.update(study_sweep(sweep, known, notes.append))
        measuring["baselines"] = lambda: measure_baselines(sweep, lambda data: decoded(data, known))
    if pictured:
        measuring["progress.webp"] = lambda: write_progress(drawn(), folder)
        if not alone:  # the folder is already a variant's run
            measuring["TensorBoard run of the sweep"] = lambda: write_sweep_run(drawn(), folder)
    _, errors = _attempt(measuring)

    showing: Makers = {"results.csv, results.json": lambda: write_results(sweep, folder)}
    if pictured:
        showing["sheet.png"] = lambda: write_sheets(sweep, folder)
        if details:
            showing["details.png"] = lambda: write_sheets(sweep, folder, details=True)
    showing["report.html"] = lambda: [write_page(sweep, studies, notes, folder)]
    shown, further = _attempt(showing)
    return shown, damages + errors + further


def _readable(sweep: SweepResult) -> tuple[SweepResult, list[str]]:
    """Mark variants whose files are not as they were written, so that the report has all others; say which and why."""
    variants, damages = {}, []
    for name, variant in sweep.variants.items():
        reason = variant.damage or variant.config_damage
        try:
            if not reason and variant.picture_steps:
                _ = variant.originals, variant.reconstructions(variant.picture_steps[-1])
        except Exception as error:  # libraries raise errors of any type for a damaged picture
            reason = str(error)
        variants[name] = replace(variant, unreadable=reason) if reason and not variant.damage else variant
        damages += [f"{name} is left out: {reason}"] if reason else []
    return replace(sweep, variants=variants), damages


def _attempt(makers: Makers) -> tuple[list[Path], list[str]]:
    """Call makers in parallel; return the paths to look at, and error messages."""
    shown: dict[str, list[Path]] = {}
    errors: dict[str, str] = {}

    def attempt(what: str) -> None:
        try:
            shown[what] = makers[what]() or []
        except Exception as error:  # a missing picture must not fail a finished training
            errors[what] = f"no {what}: {type(error).__name__}: {error}"

    pool = ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(1, user_api="blas"), pool:  # more threads per maker are slower
        list(pool.map(attempt, makers))
    paths = [path for what in makers for path in shown.get(what, [])]
    return paths, [errors[what] for what in makers if what in errors]


def write_results(sweep: SweepResult, folder: Path) -> None:
    """Write `results.csv` and `results.json`: one row per variant, then one per baseline."""
    rows = [*sweep.rows, *(baseline.row for baseline in sweep.baselines)]
    table = pd.DataFrame([{_cell(name): _cell(value) for name, value in row.items()} for row in rows])
    write(folder / "results.csv", lambda aside: table.set_index("variant").to_csv(aside))
    write_json(folder / "results.json", rows)


def _cell(value: Any) -> Any:
    """Keep a spreadsheet from taking text for a formula: an apostrophe before it, as OWASP advises."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
