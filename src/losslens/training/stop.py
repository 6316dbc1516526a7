"""A request to stop, from a signal or a failure; training writes its states first."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import torch


class Interrupted(Exception):
    """Training stopped on request; the states of all variants are on disk."""


class Stop:
    """True once training is to stop, with a `reason` and the `exit_code` of the program."""

    def __init__(self) -> None:
        self._event = Event()
        self.reason = ""
        self.exit_code = 1
        self.is_awaited = False  # whether code checks it soon

    def request(self, reason: str, exit_code: int) -> None:
        """Ask to stop; the first reason counts."""
        if not self:
            self.reason, self.exit_code = reason, exit_code
            self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Mark that the code inside checks it."""
        self.is_awaited = True
        try:
            yield
        finally:
            self.is_awaited = False


class OutOfMemory(Exception):
    """A step ran out of memory before it changed any weight, so that it can be repeated."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch or Python means that memory ran out."""
    kinds = torch.OutOfMemoryError | MemoryError | OutOfMemory
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
