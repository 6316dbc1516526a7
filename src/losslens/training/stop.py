"""A wish to stop, from a signal or a failure, which training follows as soon as it has written its states."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event


class Interrupted(Exception):
    """Training stopped as it was asked to; the states of all variants are on disk."""


class Stop:
    """True once training is to stop; `reason` and `exit_code`, of the program, say why."""

    def __init__(self) -> None:
        self._event = Event()
        self.reason = ""
        self.exit_code = 1
        self.is_awaited = False  # by somebody who looks at it soon

    def request(self, reason: str, exit_code: int) -> None:
        """Ask to stop; the first reason counts."""
        if not self:
            self.reason, self.exit_code = reason, exit_code
            self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Enter where it is looked at."""
        self.is_awaited = True
        try:
            yield
        finally:
            self.is_awaited = False
