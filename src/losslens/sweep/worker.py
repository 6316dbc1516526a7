"""A process that trains arrays of a sweep: python -m losslens.sweep.worker FOLDER (launchers start it)."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from rich.console import Console

from losslens.files import append_line
from losslens.sweep.arrays import STOPPED, StoredArray, read_settings, stored_arrays
from losslens.sweep.errors import one_line_errors
from losslens.sweep.folders import ENDED, LOG, write_status
from losslens.sweep.quiet import be_quiet, quiet_writers
from losslens.sweep.report_once import report_once
from losslens.sweep.signals import stopped_by_signals
from losslens.sweep.stored import status_of, stored_losses, stored_variants
from losslens.sweep.work import Sweep
from losslens.training.state import saved_step
from losslens.training.stop import Stop
from losslens.training.trainer import check_accelerator
from losslens.variant import Variant

MAX_ATTEMPTS = 3  # in vain
GRACE = 10.0  # seconds: who ends many processes may ask each more than once
PATIENCE = 300.0  # seconds: a lost node may hold an array on a network file system for a while


def main() -> None:
    """Train the arrays of a sweep, as far as nobody else does."""
    parser = argparse.ArgumentParser(prog="python -m losslens.sweep.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a sweep")
    parser.add_argument("--parent", type=int, help="process without which this one ends, too")
    arguments = parser.parse_args()
    with one_line_errors():
        stop = work(stored_arrays(arguments.folder), parent=arguments.parent)
    sys.exit(stop.exit_code if stop else 0)


def work(arrays: Sequence[StoredArray], *, parent: int | None = None, patience: float = 0.0) -> Stop:
    """Train arrays, one after another, but those on which others are at work.

    Args:
        arrays: of one sweep.
        parent: process without which this one is to stop.
        patience: seconds to wait for somebody who has an array.

    Returns:
        Whether it was asked to stop, and why.
    """
    be_quiet()
    stop = Stop()
    with stopped_by_signals(stop, grace=GRACE), quiet_writers():
        try:
            for array in arrays:
                with array.taken(patience) as mine:
                    while mine and not array.has_ended and not stop:
                        _train(array, stop, parent)
            if arrays and not stop and read_settings(arrays[0].sweep)["report"] and not stored_arrays(arrays[0].sweep):
                folder = arrays[0].sweep
                report_once(folder, lambda text: append_line(folder / LOG, text))
        except KeyboardInterrupt:  # where nobody looked at the wish to stop
            if not stop:
                raise
    return stop


def train_one(file: str) -> Stop:
    """Train the array of a file, in a job or a task of its own; waits for a process that is lost with its node.

    Raises:
        RuntimeError: if another process has it all the same.
    """
    array = StoredArray(Path(file))
    stop = work([array], patience=PATIENCE)
    if not stop and not array.has_ended:
        raise RuntimeError(f"another process has {file}")
    return stop


def _train(array: StoredArray, stop: Stop, parent: int | None) -> None:
    """Train an array, as far as it goes; count the attempts in which nothing was gained."""
    contents, left = array.read(), _left(array)
    progress = [len(contents["variants"]) - len(left), sum(saved_step(variant.folder) for variant in left)]
    attempts = contents["attempts"] if progress <= contents["progress"] else 0
    if attempts >= MAX_ATTEMPTS:
        for variant in left:
            write_status(variant.folder, "failed", f"{MAX_ATTEMPTS} processes that trained it were killed")
        left = []
    if not left:
        array.end()
        return
    for variant in left:
        check_accelerator(variant.config["trainer"])
    array.write({**contents, "attempts": attempts + 1, "progress": progress})
    _train_here(array, left, stop, parent)
    if not stop:
        array.end()
    else:
        with suppress(OSError):
            array.write({**contents, "attempts": attempts, "progress": progress})
            array.heartbeat.unlink(missing_ok=True)


def _left(array: StoredArray) -> list[Variant]:
    variants = stored_variants(array.sweep, set(array.read()["variants"]))
    return [variant for variant in variants if status_of(variant) not in ENDED]


def _train_here(array: StoredArray, variants: Sequence[Variant], stop: Stop, parent: int | None) -> None:
    stopped, fail_fast = array.file.with_name(STOPPED), read_settings(array.sweep)["fail_fast"]

    def report(share: float) -> None:
        _look(stop, parent, stopped)

    sweep = Sweep(
        variants,
        array.sweep,
        Console(),
        report,
        stop,
        losses=stored_losses(array.sweep),
        heartbeat=array.heartbeat,
        fail_fast=fail_fast,
    )
    _look(stop, parent, stopped)
    if not stop:
        sweep.train([variant.name for variant in variants])
    if fail_fast and sweep.failures:
        stopped.touch()


def _look(stop: Stop, parent: int | None, stopped: Path) -> None:
    """Ask to stop if the process that started this one is gone, or another one has stopped all."""
    if stopped.exists():
        stop.request("a variant failed, and fail_fast=true", 1)
    if parent is None:
        return
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            return
    stop.request("the process that started it has ended", 1)


if __name__ == "__main__":
    main()
