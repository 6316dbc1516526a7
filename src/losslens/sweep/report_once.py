"""The report of a sweep, at its end or when it stops: once, whoever comes last."""

import traceback
from collections.abc import Callable
from pathlib import Path

from losslens.report.results import load_sweep
from losslens.report.shared import Shared
from losslens.sweep.arrays import report_marker
from losslens.sweep.errors import TRACEBACK_WANTED


def report_once(folder: Path, say: Callable[[str], None], shared: Shared | None = None) -> list[Path]:
    """Make all that a sweep shows, unless another process has made it since the command began; returns what to look at.

    Args:
        folder: of the sweep.
        say: takes lines for the user.
        shared: what this process has made of the data already.
    """
    marker, lock = report_marker(folder)
    if not marker.parent.exists():  # all was trained by one process
        return report(folder, say, study=True, shared=shared)
    with lock:
        if marker.exists():
            return [path for line in marker.read_text().splitlines() if (path := folder / line).exists()]
        shown = report(folder, say, study=True, shared=shared)
        marker.write_text("\n".join(path.name for path in shown))
    return shown


def report(folder: Path, say: Callable[[str], None], *, study: bool, shared: Shared | None = None) -> list[Path]:
    """Make all that the sweep shows; a mistake there is told, and harms nothing else."""
    try:
        from losslens.report.make import make_report  # imports matplotlib, which the first step need not wait for

        shown, mistakes = make_report(load_sweep(folder), study=study, shared=shared)
    except Exception as error:
        shown, mistakes = [], [f"{type(error).__name__}: {error}"]
        if TRACEBACK_WANTED:
            traceback.print_exc()
    for mistake in mistakes:
        say(mistake)
    if mistakes:
        say(f"the results stay; once that is mended, make the rest with: python -m losslens.report {folder}")
    return shown
