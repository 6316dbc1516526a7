"""Signals that ask a sweep to stop: Ctrl-C, SIGTERM, and those that Slurm can send before a job ends."""

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
]  # Windows lacks the last two


@contextmanager
def stopped_by_signals(stop: Stop, *, grace: float = 0.0) -> Iterator[None]:
    """Request a stop on the first signal inside, and end the process at once on a second one.

    While no code checks `stop`, the first signal also raises KeyboardInterrupt.

    Args:
        grace: seconds after the first signal in which others are ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
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
