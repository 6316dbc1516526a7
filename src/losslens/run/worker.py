"""A process that trains arrays of a sweep: python -m losslens.run.worker FOLDER (launchers start it)."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from rich.console import Console

from losslens.console import be_quiet, one_line_errors, quiet_writers
from losslens.files import append_line
from losslens.report.once import report_once
from losslens.run.signals import stopped_by_signals
from losslens.run.train import SweepTraining
from losslens.sweep import ledger
from losslens.sweep.folder import LOG
from losslens.sweep.ledger import ENDED, state_of
from losslens.sweep.queue import STOPPED, QueuedArray, queued_arrays, read_settings
from losslens.sweep.variants import stored_losses, stored_variants
from losslens.training.state import saved_step
from losslens.training.stop import Stop
from losslens.training.trainer import check_accelerator
from losslens.variant import Variant

MAX_ATTEMPTS = 3  # without progress
GRACE = 10.0  # seconds in which repeated signals are ignored; schedulers often send several
PATIENCE = 300.0  # seconds: a lost node may hold an array on a network file system for a while


def main() -> None:
    """Train the arrays of a sweep that no other process trains."""
    parser = argparse.ArgumentParser(prog="python -m losslens.run.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a sweep")
    parser.add_argument("--parent", type=int, help="process without which this one ends, too")
    arguments = parser.parse_args()
    with one_line_errors():
        stop = train_queue(queued_arrays(arguments.folder), parent=arguments.parent)
    sys.exit(stop.exit_code if stop else 0)


def train_queue(arrays: Sequence[QueuedArray], *, parent: int | None = None, patience: float = 0.0) -> Stop:
    """Train arrays one after another, except those that other processes hold; returns whether and why it stopped.

    Args:
        arrays: of one sweep.
        parent: id of the process with which this one stops; None: it runs alone.
        patience: seconds to wait for a process that holds an array.
    """
    be_quiet()
    stop = Stop()
    with stopped_by_signals(stop, grace=GRACE), quiet_writers():
        try:
            for array in arrays:
                with array.claimed(patience) as mine:
                    while mine and not array.has_ended and not stop:
                        _train(array, stop, parent)
            if arrays and not stop and read_settings(arrays[0].sweep)["report"] and not queued_arrays(arrays[0].sweep):
                folder = arrays[0].sweep
                report_once(folder, lambda text: append_line(folder / LOG, text))
        except KeyboardInterrupt:  # a signal while no code checked `stop`
            if not stop:
                raise
    return stop


def train_one(file: str) -> Stop:
    """Train the array of a file in its own job or task; waits for the lock of a process on a lost node.

    Raises:
        RuntimeError: if another process still holds the array.
    """
    array = QueuedArray(Path(file))
    stop = train_queue([array], patience=PATIENCE)
    if not stop and not array.has_ended:
        raise RuntimeError(f"another process has {file}")
    return stop


def _train(array: QueuedArray, stop: Stop, parent: int | None) -> None:
    """Train what is left of an array; count the attempts without progress."""
    contents, left = array.read(), _left(array)
    progress = [len(contents["variants"]) - len(left), sum(saved_step(variant.folder) for variant in left)]
    attempts = contents["attempts"] if progress <= contents["progress"] else 0
    if attempts >= MAX_ATTEMPTS:
        for variant in left:
            ledger.failed(variant.folder, f"{MAX_ATTEMPTS} processes that trained it were killed")
        left = []
    if not left:
        array.remove()
        return
    for variant in left:
        check_accelerator(variant.config["trainer"])
    array.write({**contents, "attempts": attempts + 1, "progress": progress})
    _train_here(array, left, stop, parent)
    if not stop:
        array.remove()
    else:
        with suppress(OSError):
            array.write({**contents, "attempts": attempts, "progress": progress})
            array.heartbeat.unlink(missing_ok=True)


def _left(array: QueuedArray) -> list[Variant]:
    variants = stored_variants(array.sweep, set(array.read()["variants"]))
    return [variant for variant in variants if state_of(variant.folder) not in ENDED]


def _train_here(array: QueuedArray, variants: Sequence[Variant], stop: Stop, parent: int | None) -> None:
    stopped, fail_fast = array.file.with_name(STOPPED), read_settings(array.sweep)["fail_fast"]

    def report(share: float) -> None:
        _look(stop, parent, stopped)

    sweep = SweepTraining(
        variants,
        array.sweep,
        Console(),
        report,
        stop,
        losses=stored_losses(array.sweep),
        heartbeat=array.heartbeat,
        fail_fast=fail_fast,
    )
    sweep.known = {variant.name for variant in variants}
    _look(stop, parent, stopped)
    if not stop:
        sweep.train([variant.name for variant in variants])
    if fail_fast and sweep.failures:
        stopped.touch()


def _look(stop: Stop, parent: int | None, stopped: Path) -> None:
    """Request a stop if the parent process has ended, or another process has stopped the sweep."""
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
