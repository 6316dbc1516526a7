"""The report at the end of a command, made once by whichever of its processes ends last. Light to import."""

import traceback
from collections.abc import Callable
from pathlib import Path

from losslens.console import TRACEBACK_WANTED
from losslens.study.shared import Shared
from losslens.sweep.queue import report_marker
from losslens.sweep.results import load_sweep


def report_once(folder: Path, say: Callable[[str], None], shared: Shared | None = None) -> list[Path]:
    """Make a sweep's outputs unless another process of the command has; return the paths to look at."""
    marker, lock = report_marker(folder)
    if not marker.parent.exists():  # one process trained all variants
        return report_now(folder, say, study=True, shared=shared)
    with lock:
        if marker.exists():
            names = [Path(line).name for line in marker.read_text().splitlines()]  # of files in the folder itself
            return [path for name in names if (path := folder / name).exists()]
        shown = report_now(folder, say, study=True, shared=shared)
        marker.write_text("\n".join(path.name for path in shown))
    return shown


def report_now(folder: Path, say: Callable[[str], None], *, study: bool, shared: Shared | None = None) -> list[Path]:
    """Make a sweep's outputs, and return the paths to look at; errors go to `say` and are not raised.

    What the configurations name is trusted: the command has trained them.
    """
    try:
        from losslens.report.make import make_report  # with matplotlib, for which the first step need not wait

        shown, mistakes = make_report(load_sweep(folder, trust=True), study=study, shared=shared)
    except Exception as error:
        shown, mistakes = [], [f"{type(error).__name__}: {error}"]
        if TRACEBACK_WANTED:
            traceback.print_exc()
    for mistake in mistakes:
        say(mistake)
    if mistakes:
        say(f"the results stay; once that is mended, make the rest with: python -m losslens.report {folder}")
    return shown
