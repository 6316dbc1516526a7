"""Signals that ask a sweep to stop: Ctrl-C, SIGTERM, and those that Slurm can be told to send before a job ends."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from losslens.training.stop import Stop

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]  # the last two are not on Windows


@contextmanager
def stopped_by_signals(stop: Stop, *, grace: float = 0.0) -> Iterator[None]:
    """Inside, a first signal asks to stop, and a second one ends the process at once.

    Where nobody looks at `stop`, the first one raises KeyboardInterrupt.

    Args:
        stop: asked for.
        grace: seconds after the first signal in which others change nothing: who ends many processes may ask twice.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return

    asked_at = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if stop and time.monotonic() - asked_at < grace:
            return
        if stop:
            os._exit(128 + number)
        asked_at = time.monotonic()
        stop.request(signal.Signals(number).name, 128 + number)
        if not stop.is_awaited:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
