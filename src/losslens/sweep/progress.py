"""Write and read the progress of a sweep in its folder: heartbeats of its processes, and its log."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from losslens.files import write_json
from losslens.sweep.ledger import ENDED
from losslens.sweep.queue import queued_arrays
from losslens.sweep.stored import HEARTBEAT as HEARTBEAT_SHAPE
from losslens.sweep.stored import printable, read_object

TIME_LENGTH = len("2026-01-01 00:00:00 ")  # characters before each line of a log
HEARTBEAT = "heartbeat.json"
EVERY = 2.0  # seconds between heartbeats


@dataclass(frozen=True)
class Progress:
    """Progress of the variants in training.

    Args:
        beats: the latest heartbeat of each process.
        variants: by name, the `step`, the number of `steps` and the last `loss`.
    """

    beats: list[dict[str, Any]]
    variants: dict[str, dict[str, Any]]

    def left_of(self, name: str) -> float:
        """Return the fraction of training left of a variant that has not ended."""
        now = self.variants.get(name, {})
        return 1 - now["step"] / now["steps"] if now.get("steps") else 1.0

    def seconds_left(self, not_ended: Iterable[str]) -> float | None:
        """Return the seconds until these variants end, at the current rate; None if that is unknown."""
        rate = sum(beat["rate"] or 0.0 for beat in self.beats)
        return sum(map(self.left_of, not_ended)) / rate if rate else None


def read_progress(folder: Path) -> Progress:
    """Read the heartbeats of all processes of a sweep, including killed ones."""
    files = [folder / HEARTBEAT, *(array.heartbeat for array in queued_arrays(folder))]
    beats = [beat for file in files if (beat := _read(file))]
    return Progress(beats, {name: now for beat in beats for name, now in beat["variants"].items()})


def share_done(states: Mapping[str, str], progress: Progress) -> float:
    """Return the fraction of all training that is done."""
    left = sum(progress.left_of(name) for name, state in states.items() if state not in ENDED)
    return 1 - left / max(len(states), 1)


class LogFollower:
    """Read the lines that are added to a log from now on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._position = file.stat().st_size if file.exists() else 0

    def new_lines(self) -> list[str]:
        """Return new complete lines, without their times."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._position += len(text)
        return [line[TIME_LENGTH:] for line in text.decode(errors="replace").splitlines()]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        beat = read_object(file, HEARTBEAT_SHAPE)
    except (OSError, ValueError):  # it is written again in a moment
        return None
    return {**beat, "host": printable(beat["host"])}


class Heartbeat:
    """Write `heartbeat.json` every `EVERY` seconds.

    Args:
        num_variants: all that the process trains.
    """

    def __init__(self, file: Path, num_variants: int) -> None:
        self.file = file
        self.num_variants = num_variants
        with suppress(OSError):
            self.file.unlink(missing_ok=True)  # of an earlier process
        self.begun = self.last = time.time()
        self.first_share: float | None = None

    def beat(self, share: float, progress: Callable[[], Mapping[str, Mapping[str, float | None]]]) -> None:
        """Write the file if that is due.

        Args:
            share: fraction done of all training of the command.
            progress: returns for each variant in training `step`, the number of `steps`, and the last `loss`.
        """
        if self.first_share is None:  # progress of earlier processes does not count
            self.begun, self.first_share = time.time(), share
        now = time.time()
        if now - self.last < EVERY:
            return
        self.last = now
        gained = (share - self.first_share) * self.num_variants
        with suppress(OSError):  # a full disk is reported when states are written
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
