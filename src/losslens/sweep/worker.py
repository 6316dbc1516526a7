"""A process that trains arrays of a sweep: python -m losslens.sweep.worker FOLDER (launchers start it)."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console

from losslens.files import append_line
from losslens.sweep.arrays import PEERS_ENDING, STOPPED, StoredArray, read_settings, stored_arrays
from losslens.sweep.errors import one_line_errors
from losslens.sweep.folders import ENDED, LOG, write_status
from losslens.sweep.quiet import be_quiet, quiet_writers
from losslens.sweep.report_once import report_once
from losslens.sweep.signals import stopped_by_signals
from losslens.sweep.stored import status_of, stored_losses, stored_variants
from losslens.sweep.work import Sweep
from losslens.training.fit import Variant
from losslens.training.peers import PeerLost, Peers, check_accelerator, join_peers, num_peers
from losslens.training.state import saved_step, state_folder
from losslens.training.stop import Stop

MAX_ATTEMPTS = 3  # in vain
LOOK_EVERY = 0.2  # seconds
GRACE = 10.0  # seconds: who ends many processes may ask each more than once
PATIENCE = 300.0  # seconds: a lost node may hold an array on a network file system for a while
PATIENCE_WITH_PEERS = 120.0  # seconds, for those of a process that was killed to end


def main() -> None:
    """Train the arrays of a sweep, as far as nobody else does."""
    parser = argparse.ArgumentParser(prog="python -m losslens.sweep.worker", description=__doc__)
    parser.add_argument("place", type=Path, help="folder of a sweep; with --peer, the file of an array")
    parser.add_argument("--parent", type=int, help="process without which this one ends, too")
    parser.add_argument("--peer", action="store_true", help="train with the others that torchrun has started")
    arguments = parser.parse_args()
    with one_line_errors():
        if arguments.peer:
            _work_with_peers(StoredArray(arguments.place), arguments.parent)
            return
        stop = work(stored_arrays(arguments.place), parent=arguments.parent)
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
    if (count := num_peers(left[0].config["trainer"])) > 1:
        _start_peers(array, count, stop, parent)
    else:
        _train_here(array, left, array.sweep, stop, parent)
        if not stop:
            array.end()
    if stop:
        with suppress(OSError):
            array.write({**contents, "attempts": attempts, "progress": progress})
            array.heartbeat.unlink(missing_ok=True)


def _left(array: StoredArray) -> list[Variant]:
    variants = stored_variants(array.sweep, set(array.read()["variants"]))
    return [variant for variant in variants if status_of(variant) not in ENDED]


def _train_here(
    array: StoredArray,
    variants: Sequence[Variant],
    folder: Path,
    stop: Stop,
    parent: int | None,
    peers: Peers | None = None,
) -> Sweep:
    stopped, fail_fast = array.file.with_name(STOPPED), read_settings(array.sweep)["fail_fast"]

    def report(share: float) -> None:
        _look(stop, parent, stopped)

    sweep = Sweep(
        variants,
        folder,
        Console(),
        report,
        stop,
        losses=stored_losses(array.sweep),
        heartbeat=folder / array.heartbeat.relative_to(array.sweep),
        peers=peers,
        fail_fast=fail_fast,
    )
    _look(stop, parent, stopped)
    if not stop:
        sweep.train([variant.name for variant in variants])
    if fail_fast and sweep.failures:
        stopped.touch()
    return sweep


def _look(stop: Stop, parent: int | None, stopped: Path) -> None:
    """Ask to stop if the process that started this one is gone, or another one has stopped all."""
    _look_for(parent, stop)
    if stopped.exists():
        stop.request("a variant failed, and fail_fast=true", 1)


def _look_for(parent: int | None, stop: Stop) -> None:
    """Ask to stop if the process that started this one is gone."""
    if parent is None:
        return
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            return
    stop.request("the process that started it has ended", 1)


def _start_peers(array: StoredArray, count: int, stop: Stop, parent: int | None) -> None:
    """Let torchrun start the processes that train an array together."""
    with array.taken(PATIENCE_WITH_PEERS, PEERS_ENDING):  # those of a worker that was killed see that, and end
        pass
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "losslens.sweep.worker", "--peer", str(array.file), "--parent", str(os.getpid())]
    told = False
    with stop.awaited():
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None:
            _look_for(parent, stop)
            if stop and not told:
                process.terminate()
                told = True
            time.sleep(LOOK_EVERY)
    if process.returncode == 0 and _left(array):  # they stopped in order, for a reason of their own
        stop.request("the processes that trained it stopped", 1)


def _work_with_peers(array: StoredArray, parent: int | None) -> None:
    """Train an array with the other processes; only the first one writes into the sweep's folder."""
    be_quiet()
    stop, is_first = Stop(), os.environ["RANK"] == "0"
    with stopped_by_signals(stop, grace=GRACE), quiet_writers(), tempfile.TemporaryDirectory() as place:
        variants = _left(array)
        copies, folder = variants, array.sweep
        if not is_first:
            folder = Path(place)
            (folder / array.file.parent.name).mkdir()
            copies = [_copy(variant, folder) for variant in variants]
        try:
            with array.taken(ending=PEERS_ENDING) if is_first else nullcontext():
                sweep = _train_here(
                    array, copies, folder, stop, parent, join_peers(variants[0].config["trainer"], stop)
                )
        except PeerLost:
            os._exit(1)  # what this process says of its variants does not count; they are tried again
    for variant in variants:
        own = sweep.failures.get(variant.name)
        if own and not is_first and status_of(variant) in ("pending", "running", "interrupted"):
            write_status(variant.folder, "failed", own)
    if sweep.failures and not is_first and any(status_of(each) not in ENDED for each in variants):
        sys.exit(1)  # so that torchrun ends the others


def _copy(variant: Variant, place: Path) -> Variant:
    """Give a process that is not the first one a folder of its own, with the states from which all go on."""
    folder = place / variant.name
    folder.mkdir()
    if state_folder(variant.folder).exists():
        shutil.copytree(state_folder(variant.folder), state_folder(folder))
    return replace(variant, folder=folder)


if __name__ == "__main__":
    main()
