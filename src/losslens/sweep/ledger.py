"""Record the states of variants, each in `status.json` and a line of `log.txt`; no other module does."""

from pathlib import Path
from typing import Any

from losslens.files import append_line, write_json, write_text
from losslens.sweep.folder import LOG
from losslens.sweep.stored import STATUS, Damaged, printable, read_object

STATES = ("pending", "running", "interrupted", "done", "failed")
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
    """Read `status` (pending, running, interrupted, done, failed) and `reason`.

    Raises:
        Damaged: if the file is not as it was written.
    """
    path = folder / "status.json"
    if not path.exists():
        return {"status": "pending", "reason": None}
    try:
        status = read_object(path, STATUS)
        if status["status"] not in STATES:
            raise Damaged(path, f"status is {status['status'][:40]!r}")
    except Damaged as error:
        raise Damaged(path, error.reason, "delete it, and the variant is trained again") from error
    reason = status["reason"]
    return {"status": status["status"], "reason": reason and printable(reason)}


def state_of(folder: Path) -> str:
    """Return a variant's state."""
    return str(read_status(folder)["status"])


def _write(folder: Path, state: str, reason: str | None = None) -> None:
    write_json(folder / "status.json", {"status": state, "reason": reason})
