"""A sign of life of a sweep that trains: how far it is, and how long it will take."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from losslens.files import write_json

HEARTBEAT = "heartbeat.json"
EVERY = 2.0  # seconds


class Heartbeat:
    """Writes `heartbeat.json` now and then.

    Args:
        file: to be written.
        num_variants: that the process trains in all.
    """

    def __init__(self, file: Path, num_variants: int) -> None:
        self.file = file
        self.num_variants = num_variants
        with suppress(OSError):
            self.file.unlink(missing_ok=True)  # of a process that is gone
        self.begun = self.last = time.time()
        self.first_share: float | None = None

    def beat(self, share: float, progress: Callable[[], Mapping[str, Mapping[str, float | None]]]) -> None:
        """Write, if it is time.

        Args:
            share: of all training of the command that is done.
            progress: for each variant at work its `step`, the number of `steps`, and its last `loss`.
        """
        if self.first_share is None:  # what an earlier process did does not count
            self.begun, self.first_share = time.time(), share
        now = time.time()
        if now - self.last < EVERY:
            return
        self.last = now
        gained = (share - self.first_share) * self.num_variants
        with suppress(OSError):  # a full disk is told by what matters
            write_json(
                self.file,
                {
                    "time": now,
                    "process": os.getpid(),
                    "host": socket.gethostname(),
                    "rate": gained / (now - self.begun) if now > self.begun else None,  # variants a second
                    "variants": dict(progress()),
                },
            )
