"""Hand arrays to processes elsewhere, and follow them until they end."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from losslens.files import append_line
from losslens.sweep.arrays import StoredArray, write_arrays
from losslens.sweep.folders import LOG
from losslens.sweep.follow import LogFollower, read_progress, share_done
from losslens.sweep.stored import status_of
from losslens.training.stop import Stop
from losslens.variant import Variant

LOOK_EVERY = 0.5  # seconds
LEAST_SHARE = 20  # of waiting: looking at many variants takes its time


class Workers(Protocol):
    """Processes that train arrays: on this machine, in a queue, on a cluster.

    Each calls `losslens.sweep.worker.work` with some of the arrays.
    """

    def num_slots(self) -> int:
        """Return how many arrays train at once, or are to."""

    def start(self, arrays: Sequence[StoredArray]) -> str:
        """Begin; returns what to tell the user of it."""

    def have_ended(self) -> bool:
        """Whether nobody is going to work any more."""

    def stop(self) -> None:
        """Ask all to write their states and end; what waits in a queue does not begin."""

    def if_left_alone(self) -> str | None:
        """Say how they go on without the process that started them; None if they do not."""

    def trouble(self) -> str | None:
        """Say why they ended before their arrays did, if that is known."""


def distribute(
    variants: Sequence[Variant],
    arrays: Sequence[Sequence[str]],
    folder: Path,
    workers: Workers,
    settings: Mapping[str, Any],
    *,
    show: Callable[[str], None],
    report: Callable[[float], None],
    stop: Stop,
) -> bool:
    """Let workers train arrays; returns whether they go on by themselves, though this process was asked to stop.

    Args:
        variants: that are to be trained.
        arrays: their names.
        folder: of the sweep.
        workers: who trains.
        settings: of the command.
        show: prints lines of the sweep's log for the user.
        report: takes the share that is done.
        stop: asked for to stop.
    """
    # What is imported beside the script of the command is found in the processes, too.
    paths = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    log = LogFollower(folder / LOG)
    told_to_stop = False
    with stop.awaited():
        append_line(folder / LOG, workers.start(write_arrays(folder, arrays, settings)))
        while True:
            begin = time.monotonic()
            ended = workers.have_ended()
            states = {variant.name: status_of(variant) for variant in variants}
            for line in log.new_lines():
                show(line)
            report(share_done(states, read_progress(folder)))
            if settings["fail_fast"] and "failed" in states.values():
                stop.request("a variant failed, and fail_fast=true", 1)
            if ended:
                if trouble := workers.trouble():
                    show(f"the processes that train ended: {trouble}")
                return False
            if stop and not told_to_stop:
                alone = workers.if_left_alone()
                if alone is not None and "failed" not in stop.reason:
                    show(alone)
                    return True
                workers.stop()
                told_to_stop = True
            until = time.monotonic() + max(LOOK_EVERY, LEAST_SHARE * (time.monotonic() - begin))
            while time.monotonic() < until and (told_to_stop or not stop):
                time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))
