"""A process that trains arrays of a sweep: python -m losslens.sweep.worker ARRAY_FILE... (launchers start it)."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
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
from losslens.training.fit import Variant
from losslens.training.peers import Peers, join_peers, num_peers
from losslens.training.state import state_folder
from losslens.training.stop import Stop

PLAIN_WIDTH = 200
MAX_ATTEMPTS = 3  # of processes that are killed with an array
LOOK_EVERY = 0.2  # seconds


def main() -> None:
    """Train the arrays of these files, as far as nobody else does."""
    parser = argparse.ArgumentParser(prog="python -m losslens.sweep.worker", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="in the folder `arrays` of a sweep")
    parser.add_argument("--parent", type=int, help="process without which this one ends, too")
    parser.add_argument("--peer", action="store_true", help="train with the others that torchrun has started")
    arguments = parser.parse_args()
    arrays = [StoredArray(file) for file in arguments.files]
    with one_line_errors():
        if arguments.peer:
            stop = _work_with_peers(arrays[0], arguments.parent)
        else:
            stop = work(arrays, parent=arguments.parent)
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
                while mine and not array.has_ended and not stop:
                    settings = array.read()["settings"]
                    _train(array, stop, parent)
    if not stop and settings["report"] and not stored_arrays(folder):
        report_once(folder, lambda text: append_line(folder / LOG, text))
    return stop


def _train(array: StoredArray, stop: Stop, parent: int | None) -> None:
    """Train an array, as far as it goes; count the attempt, unless it is stopped in order."""
    contents = array.read()
    left = _left(array)
    if contents["attempts"] >= MAX_ATTEMPTS:
        for variant in left:
            write_status(variant.folder, "failed", f"{MAX_ATTEMPTS} processes that trained it were killed")
    if not left or contents["attempts"] >= MAX_ATTEMPTS:
        array.end()
        return
    array.write({**contents, "attempts": contents["attempts"] + 1})
    if num_peers(left[0].config["trainer"]) > 1:
        _start_peers(array, num_peers(left[0].config["trainer"]), stop, parent)
    else:
        _train_here(array, left, array.sweep, stop, parent)
        if not stop:
            array.end()
    if stop:
        with suppress(OSError):
            array.write({**contents, "attempts": 0})
            array.heartbeat.unlink(missing_ok=True)


def _left(array: StoredArray) -> list[Variant]:
    variants = stored_variants(array.sweep, set(array.read()["variants"]))
    return [variant for variant in variants if status_of(variant) not in ("done", "failed")]


def _train_here(
    array: StoredArray,
    variants: Sequence[Variant],
    folder: Path,
    stop: Stop,
    parent: int | None,
    peers: Peers | None = None,
) -> Sweep:
    def report(share: float) -> None:
        if parent is not None and not psutil.pid_exists(parent):
            stop.request("the process that started it has ended", 1)

    sweep = Sweep(
        variants,
        folder,
        Console(width=PLAIN_WIDTH),
        report,
        stop,
        losses=stored_losses(array.sweep),
        heartbeat=folder / array.heartbeat.relative_to(array.sweep),
        peers=peers,
        fail_fast=array.read()["settings"]["fail_fast"],
    )
    sweep.train([variant.name for variant in variants])
    return sweep


def _start_peers(array: StoredArray, count: int, stop: Stop, parent: int | None) -> None:
    """Let torchrun start the processes that train an array together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "losslens.sweep.worker", "--peer", str(array.file)]
    command += [] if parent is None else ["--parent", str(parent)]
    process = subprocess.Popen(command)
    told = False
    with stop.awaited():
        while process.poll() is None:
            if stop and not told:
                process.terminate()
                told = True
            time.sleep(LOOK_EVERY)


def _work_with_peers(array: StoredArray, parent: int | None) -> Stop:
    """Train an array with the other processes; only the first one writes into the sweep's folder."""
    be_quiet()
    stop = Stop()
    with stopped_by_signals(stop), quiet_writers(), tempfile.TemporaryDirectory() as place:
        variants = _left(array)
        copies, folder = variants, array.sweep
        if (peers := join_peers(stop)) and peers.rank > 0:
            folder = Path(place)
            (folder / array.file.parent.name).mkdir()
            copies = [_copy(variant, folder) for variant in variants]
        sweep = _train_here(array, copies, folder, stop, parent, peers)
        for variant in variants:
            if peers and peers.rank > 0 and variant.name in sweep.failures and status_of(variant) != "failed":
                write_status(variant.folder, "failed", sweep.failures[variant.name])
    return stop


def _copy(variant: Variant, place: Path) -> Variant:
    """Give a process that is not the first one a folder of its own, with the states from which all go on."""
    folder = place / variant.name
    folder.mkdir()
    if state_folder(variant.folder).exists():
        shutil.copytree(state_folder(variant.folder), state_folder(folder))
    return replace(variant, folder=folder)


if __name__ == "__main__":
    main()
