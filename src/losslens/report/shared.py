"""What several threads want, made once."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Any


class Shared:
    """Things by name: who asks first makes it, who asks meanwhile waits for it, and an error is that of all."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[str, Future[Any]] = {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what is of that name, or make it.

        Raises:
            Exception: what `make` raised, also when it was asked for earlier.
        """
        with self._lock:
            future = self._made.get(name)
            mine = future is None
            if future is None:
                future = self._made[name] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()
