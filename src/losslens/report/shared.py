"""What several threads want, made once."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Lock
from typing import Any

from losslens.build import build
from losslens.data.source import Images, Source


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


def keep_images(images: Images, data: Mapping[str, Any], shared: Shared) -> None:
    """Keep what was decoded already of a configuration of data, so that `decoded` returns it."""
    shared.get(_name(data), lambda: images)


def decoded(data: Mapping[str, Any], shared: Shared) -> Images:
    """Decode the images of a configuration of data, once.

    Raises:
        ValueError: if it is not on this machine, or holds none.
    """

    def decode() -> Images:
        source = build(data)
        if isinstance(source, Source) and not source.is_here():
            raise ValueError("its data is not on this machine")
        images: Images = source.decode()
        return images

    images: Images = shared.get(_name(data), decode)
    return images


def _name(data: Mapping[str, Any]) -> str:
    return f"images of {data!r}"
