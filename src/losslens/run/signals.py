"""Signals that ask a sweep to stop: Ctrl-C, SIGTERM, a closed terminal, those that Slurm sends before a job ends."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from losslens.training.stop import Stop

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows lacks the last three


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

    before = {number: signal.signal(number, handle) for number in _handled()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled() -> list[signal.Signals]:
    """List the signals to handle: without SIGHUP if it is ignored, as under `nohup`."""
    return [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) is not signal.SIG_IGN]
