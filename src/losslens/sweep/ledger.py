"""Record the states of variants, each in `status.json` and a line of `log.txt`; no other module does."""

import json
from pathlib import Path
from typing import Any

from losslens.files import append_line, write_json, write_text
from losslens.sweep.folder import LOG

ENDED = ("done", "failed")  # final, unless a command retries failed variants
TRACEBACK = "traceback.txt"


def pending(folder: Path) -> None:
    """Record that a variant is to be trained."""
    _write(folder, "pending")


def running(folder: Path, first_step: int) -> None:
    """Record that a process trains a variant, from a step on; 0 is the start."""
    _write(folder, "running")
    append_line(folder / LOG, f"trains from {f'step {first_step}' if first_step else 'the start'}")


def done(folder: Path) -> None:
    """Record that a variant is trained and measured."""
    _write(folder, "done")
    append_line(folder / LOG, "done")


def failed(folder: Path, reason: str, traceback: str | None = None) -> None:
    """Record why a variant failed."""
    _write(folder, "failed", reason)
    if traceback is not None:
        write_text(folder / TRACEBACK, traceback)
    append_line(folder / LOG, f"failed: {reason}")


def interrupted(folder: Path, reason: str) -> None:
    """Record why a variant stopped before its end; it can be resumed."""
    _write(folder, "interrupted", reason)
    append_line(folder / LOG, f"interrupted: {reason}")


def read_status(folder: Path) -> dict[str, Any]:
    """Read `status` (pending, running, interrupted, done, failed) and `reason`."""
    path = folder / "status.json"
    if not path.exists():
        return {"status": "pending", "reason": None}
    status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return status


def state_of(folder: Path) -> str:
    """Return a variant's state."""
    return str(read_status(folder)["status"])


def _write(folder: Path, state: str, reason: str | None = None) -> None:
    write_json(folder / "status.json", {"status": state, "reason": reason})
