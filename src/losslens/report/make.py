"""Make all that a sweep shows, from its folders; what studies trained variants decodes their data once more."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from losslens.files import write, write_json
from losslens.report.baselines import measure_baselines
from losslens.report.page import write_page
from losslens.report.results import SweepResult
from losslens.report.shared import Shared, decoded
from losslens.report.sheet import write_progress, write_sheets
from losslens.report.study import Study, study_sweep
from losslens.report.tensorboard import write_sweep_run


def make_report(sweep: SweepResult, *, details: bool = False, study: bool = True) -> tuple[list[Path], list[str]]:
    """Write results, sheets, the sweep's TensorBoard run and the report into the sweep's folder.

    What cannot be written does not keep the rest from being written.

    Args:
        sweep: as it is now; it may still run.
        details: whether to write sheets with errors and with what each loss sees, too.
        study: whether to study trained variants, which takes their data.

    Returns:
        The pages and pictures to look at, and what went wrong.
    """
    folder = sweep.folder
    alone = any(variant.folder.resolve() == folder.resolve() for variant in sweep.variants.values())
    shown: list[Path] = []
    errors: list[str] = []

    def attempt(what: str, make: Callable[[], object]) -> None:
        try:
            make()
        except Exception as error:  # a finished training does not fail for want of a picture
            errors.append(f"no {what}: {type(error).__name__}: {error}")

    studies: dict[str, Study] = {}
    notes: list[str] = []
    if study:
        shared = Shared()
        attempt("study of codes and colors", lambda: studies.update(study_sweep(sweep, shared, notes.append)))
        attempt("baselines", lambda: measure_baselines(sweep, lambda data: decoded(data, shared)))
    attempt("results.csv, results.json", lambda: write_results(sweep, folder))
    if any(variant.picture_steps for variant in sweep.variants.values()):
        attempt("sheet.png", lambda: shown.extend(write_sheets(sweep, folder)))
        if details:
            attempt("details.png", lambda: shown.extend(write_sheets(sweep, folder, details=True)))
        attempt("progress.webp", lambda: write_progress(sweep, folder))
        if not alone:  # its folder is a variant's run already
            attempt("TensorBoard run of the sweep", lambda: write_sweep_run(sweep, folder))
    attempt("report.html", lambda: shown.append(write_page(sweep, studies, notes, folder)))
    return shown, errors


def write_results(sweep: SweepResult, folder: Path) -> None:
    """Write `results.csv` and `results.json`, a row a variant, and below them those of baselines."""
    rows = [*sweep.rows, *(baseline.row for baseline in sweep.baselines)]
    table = pd.DataFrame(rows).set_index("variant")
    write(folder / "results.csv", lambda aside: table.to_csv(aside))
    write_json(folder / "results.json", rows)
