"""How far a sweep is, from its folder alone: what its processes left there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from losslens.sweep.arrays import stored_arrays
from losslens.sweep.folders import ENDED
from losslens.sweep.heartbeat import HEARTBEAT

TIME_LENGTH = len("2026-01-01 00:00:00 ")  # before each line of a log


@dataclass(frozen=True)
class Progress:
    """Of variants that are at work.

    Args:
        beats: latest signs of life, one for each process, as `Heartbeat` writes them.
        variants: by name, the `step`, the number of `steps` and the last `loss`.
    """

    beats: list[dict[str, Any]]
    variants: dict[str, dict[str, Any]]

    def left_of(self, name: str) -> float:
        """Return the share of a variant's training that is left, if it has not ended."""
        now = self.variants.get(name, {})
        return 1 - now["step"] / now["steps"] if now.get("steps") else 1.0

    def seconds_left(self, not_ended: Iterable[str]) -> float | None:
        """Return how long it takes to the end of these variants, if it goes on as it does now."""
        rate = sum(beat["rate"] or 0.0 for beat in self.beats)
        return sum(map(self.left_of, not_ended)) / rate if rate else None


def read_progress(folder: Path) -> Progress:
    """Read the signs of life of all processes of a sweep, also of one that was killed."""
    files = [folder / HEARTBEAT, *(array.heartbeat for array in stored_arrays(folder))]
    beats = [beat for file in files if (beat := _read(file))]
    return Progress(beats, {name: now for beat in beats for name, now in beat["variants"].items()})


def share_done(states: Mapping[str, str], progress: Progress) -> float:
    """Return the share of all training that is done.

    Args:
        states: of the variants, by name.
        progress: of those at work.
    """
    left = sum(progress.left_of(name) for name, state in states.items() if state not in ENDED)
    return 1 - left / max(len(states), 1)


class LogFollower:
    """Reads what is added to a log from now on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._position = file.stat().st_size if file.exists() else 0

    def new_lines(self) -> list[str]:
        """Return whole lines that are new, without their times."""
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
        contents: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return contents
