"""Write and read the whole state of a variant in training: resumed from it, training ends with the same bits.

A file begins with a line that names the format, the step, the stage, and the SHA-256 of the rest, which is a checkpoint
of tensors and plain values. Two generations are kept.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any

import torch

from losslens.files import write
from losslens.training.variant_trainer import Stage, VariantTrainer

FORMAT = "losslens-state-3"
LATEST, BEFORE = "state.ckpt", "state-before.ckpt"
DAMAGED = ".damaged"
MAX_HEADER = 200  # bytes
REFUSED = (PicklingError, UnpicklingError, TypeError, AttributeError)  # raised for objects that are no plain values


@dataclass(frozen=True)
class SavedState:
    """An undamaged state on disk, after `step` optimizer steps."""

    step: int
    stage: Stage
    path: Path

    @property
    def place(self) -> tuple[int, Stage]:
        """Where training resumes; variants of one array are at the same place."""
        return self.step, self.stage

    def load(self) -> dict[str, Any]:
        """Read the state; nothing in it is executed.

        Raises:
            ValueError: if it holds anything but tensors and plain values.
        """
        _, _, content = self.path.read_bytes().partition(b"\n")
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise ValueError(
                "the state to go on from holds more than tensors and plain values, which is not loaded, since it could "
                "run code: remove its file to begin again"
            ) from error
        assert isinstance(state, dict)
        return state


@dataclass(frozen=True)
class SaveInterval:
    """How often states are written: after so many seconds, or steps of each variant."""

    seconds: float = float("inf")
    steps: float = float("inf")


def parse_interval(text: object) -> SaveInterval:
    """Read `60s`, `10m`, `2h` or `500steps`.

    Raises:
        ValueError: if it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps)", str(text))
    if not found or not float(found[1]) > 0:
        raise ValueError(f"checkpoint.every is {text}: use a time such as 60s, 10m or 2h, or steps such as 500steps")
    if found[2] == "steps":
        return SaveInterval(steps=float(found[1]))
    return SaveInterval(seconds=float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]])


def save_state(member: VariantTrainer, stage: Stage) -> bool:
    """Write a member's state, and keep the previous one; returns False if this state is on disk already.

    Raises:
        ValueError: if it holds more than tensors and plain values, which would not be loaded.
    """
    if member.saved == (mark := (member.global_step, stage, member.validated_step, member.stopped)):
        return False
    try:
        content = _encode_safely(member.snapshot(stage))
    except REFUSED:
        _raise_culprit(member)
        raise
    header = f"{FORMAT} {member.global_step} {stage.value} {hashlib.sha256(content).hexdigest()}\n".encode()
    folder = state_folder(member.folder)
    folder.mkdir(exist_ok=True)

    def save(aside: Path) -> None:
        with aside.open("wb") as file:
            file.write(header)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if (folder / LATEST).exists():
            os.replace(folder / LATEST, folder / BEFORE)

    write(folder / LATEST, save)
    member.saved = mark
    return True


def read_states(folder: Path, say: Callable[[str], None]) -> list[SavedState]:
    """Read a variant's states, the latest first; damaged ones are renamed, and the user is told by `say`."""
    states = []
    for name in (LATEST, BEFORE):
        path = state_folder(folder) / name
        if not path.exists():
            continue
        state = _read(path)
        if state is None:
            os.replace(path, path.with_name(name + DAMAGED))
            say(f"{path} is damaged: it is set aside as {name}{DAMAGED}, and what was saved before is used")
        else:
            states.append(state)
    return states


def saved_step(folder: Path) -> int:
    """Return the step of a variant's latest state as its first line says, 0 if there is none."""
    try:
        with (state_folder(folder) / LATEST).open("rb") as file:
            return int(file.readline(MAX_HEADER).split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def remove_states(folder: Path) -> None:
    """Remove the states of a finished variant."""
    for name in (LATEST, BEFORE):
        (state_folder(folder) / name).unlink(missing_ok=True)


def state_folder(folder: Path) -> Path:
    """Return the folder of a variant's states."""
    return folder / "checkpoints"


def _read(path: Path) -> SavedState | None:
    with path.open("rb") as file:
        parts = file.readline(MAX_HEADER).decode(errors="replace").split()
        if len(parts) != 4 or parts[0] != FORMAT or hashlib.file_digest(file, "sha256").hexdigest() != parts[3]:
            return None
    return SavedState(int(parts[1]), Stage(int(parts[2])), path)


def _encode_safely(state: Any) -> memoryview:
    """Encode a state, and check that it can be loaded."""
    encoded = io.BytesIO()
    torch.save(state, encoded)
    encoded.seek(0)
    torch.load(encoded, map_location="cpu", weights_only=True)
    return encoded.getbuffer()


def _raise_culprit(member: VariantTrainer) -> None:
    """Raise a ValueError that names the callback whose state is not made of tensors and plain values."""
    for callback in member.callbacks:
        try:
            _encode_safely(callback.state_dict())
        except REFUSED as error:
            raise ValueError(
                f"the callback {type(callback).__name__} keeps more than tensors and plain values, which would not be "
                "loaded when the sweep goes on: mend its state_dict"
            ) from error
