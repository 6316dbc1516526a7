"""Submit arrays to an executor, and follow them until they end."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from losslens.files import append_line
from losslens.sweep.folder import LOG
from losslens.sweep.ledger import state_of
from losslens.sweep.progress import LogFollower, read_progress, share_done
from losslens.sweep.queue import QueuedArray, queue_arrays
from losslens.training.stop import Stop
from losslens.variant import Variant

LOOK_EVERY = 0.5  # seconds
LEAST_SHARE = 20  # seconds of waiting per second of reading states, which is slow for many variants


class Executor(Protocol):
    """Processes that train arrays: on this machine, in a queue, on a cluster.

    Each trains some of the arrays with `losslens.run.worker`.
    """

    def max_jobs(self) -> int:
        """Return how many arrays train at once."""

    def submit(self, arrays: Sequence[QueuedArray]) -> str:
        """Submit the arrays; returns a line for the user."""

    def done(self) -> bool:
        """Return whether all jobs have ended."""

    def cancel(self) -> None:
        """Ask running jobs to write their states and end; queued jobs do not start."""

    def detached_message(self) -> str | None:
        """Return a line on how jobs continue without this process; None if they end with it."""

    def error(self) -> str | None:
        """Return why jobs ended before their arrays did; None if unknown."""


def distribute(
    variants: Sequence[Variant],
    arrays: Sequence[Sequence[str]],
    folder: Path,
    executor: Executor,
    settings: Mapping[str, Any],
    *,
    show: Callable[[str], None],
    on_progress: Callable[[float], None],
    stop: Stop,
) -> bool:
    """Let an executor train arrays; returns whether its jobs continue after this process was asked to stop.

    Args:
        arrays: names of the variants of each.
        settings: `report` and `fail_fast` of the command.
        show: prints lines of the sweep's log for the user.
        on_progress: takes the fraction done, in [0, 1].
    """
    # Modules beside the command's script must be importable in the workers, too.
    paths = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    log = LogFollower(folder / LOG)
    told_to_stop = False
    with stop.awaited():
        append_line(folder / LOG, executor.submit(queue_arrays(folder, arrays, settings)))
        while True:
            begin = time.monotonic()
            ended = executor.done()
            states = {variant.name: state_of(variant.folder) for variant in variants}
            for line in log.new_lines():
                show(line)
            on_progress(share_done(states, read_progress(folder)))
            if settings["fail_fast"] and "failed" in states.values():
                stop.request("a variant failed, and fail_fast=true", 1)
            if ended:
                if problem := executor.error():
                    show(f"the processes that train ended: {problem}")
                return False
            if stop and not told_to_stop:
                alone = executor.detached_message()
                if alone is not None and "failed" not in stop.reason:
                    show(alone)
                    return True
                executor.cancel()
                told_to_stop = True
            until = time.monotonic() + max(LOOK_EVERY, LEAST_SHARE * (time.monotonic() - begin))
            while time.monotonic() < until and (told_to_stop or not stop):
                time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))
