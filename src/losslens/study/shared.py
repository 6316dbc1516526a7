"""Values that several threads share, each made once."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Lock
from typing import Any

from losslens.build import build
from losslens.data.source import Images, Source
from losslens.variant import config_key


class Shared:
    """Values by name: the first caller makes one, callers meanwhile wait for it, and all get its error."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[str, Future[Any]] = {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the value of that name; make it if there is none.

        Raises:
            Exception: that `make` raised, now or at an earlier call.
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
    """Keep the decoded images of a data configuration, so that `decoded` returns them."""
    shared.get(_name(data), lambda: images)


def decoded(data: Mapping[str, Any], shared: Shared) -> Images:
    """Return the images of a data configuration, decoded once.

    Raises:
        ValueError: if the data is not on this machine, or holds no images.
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
    return f"images of {config_key(data)}"
