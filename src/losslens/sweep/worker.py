"""A process that trains arrays of a sweep: python -m losslens.sweep.worker ARRAY_FILE... (launchers start it)."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from losslens.files import append_line
from losslens.sweep.arrays import StoredArray, stored_arrays
from losslens.sweep.errors import one_line_errors
from losslens.sweep.folders import LOG, write_status
from losslens.sweep.quiet import be_quiet, quiet_writers
from losslens.sweep.report_once import report_once
from losslens.sweep.signals import stopped_by_signals
from losslens.sweep.stored import status_of, stored_losses, stored_variants
from losslens.sweep.work import Sweep
from losslens.training.stop import Stop

PLAIN_WIDTH = 200
MAX_ATTEMPTS = 3  # of processes that are killed with an array


def main() -> None:
    """Train the arrays of these files, as far as nobody else does."""
    parser = argparse.ArgumentParser(prog="python -m losslens.sweep.worker", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="in the folder `arrays` of a sweep")
    parser.add_argument("--parent", type=int, help="process without which this one ends, too")
    arguments = parser.parse_args()
    with one_line_errors():
        stop = work([StoredArray(file) for file in arguments.files], parent=arguments.parent)
    sys.exit(stop.exit_code if stop else 0)


def work(arrays: Sequence[StoredArray], *, parent: int | None = None) -> Stop:
    """Train arrays, one after another, but those on which others are at work.

    Args:
        arrays: of one sweep.
        parent: process without which this one is to stop.

    Returns:
        Whether it was asked to stop, and why.
    """
    be_quiet()
    stop, folder, settings = Stop(), arrays[0].sweep, {"report": False}
    with stopped_by_signals(stop), quiet_writers():
        for array in arrays:
            with array.taken() as mine:
                if mine and not array.has_ended and not stop:
                    settings = array.read()["settings"]
                    _train(array, stop, parent)
    if not stop and settings["report"] and not stored_arrays(folder):
        report_once(folder, lambda text: append_line(folder / LOG, text))
    return stop


def _train(array: StoredArray, stop: Stop, parent: int | None) -> None:
    contents = array.read()
    settings = contents["settings"]
    variants = stored_variants(array.sweep, set(contents["variants"]))
    left = [each for each in variants if status_of(each) not in ("done", "failed")]
    if contents["attempts"] >= MAX_ATTEMPTS:
        for variant in left:
            write_status(variant.folder, "failed", f"{MAX_ATTEMPTS} processes that trained it were killed")
        array.end()
        return
    array.write({**contents, "attempts": contents["attempts"] + 1})

    def report(share: float) -> None:
        if parent is not None and os.getppid() != parent:
            stop.request("the process that started it has ended", 1)

    sweep = Sweep(
        variants,
        array.sweep,
        Console(width=PLAIN_WIDTH),
        report,
        stop,
        losses=stored_losses(array.sweep),
        heartbeat=array.heartbeat,
        fail_fast=settings["fail_fast"],
    )
    sweep.train([variant.name for variant in left])
    if sweep.interrupted:
        with suppress(OSError):
            array.write({**contents, "attempts": 0})  # as it was: this one was not killed
            array.heartbeat.unlink(missing_ok=True)
    else:
        array.end()


if __name__ == "__main__":
    main()
