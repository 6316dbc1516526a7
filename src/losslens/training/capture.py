"""CUDA graphs of many branches: begun, left and, after an error, mended in order."""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

# As torch says it of an operation in which the host waits for the device; a graph cannot hold one.
WAITS = "called a synchronizing CUDA operation"
OF_THE_MODE = "Synchronization debug mode"  # that it is a prototype


class CaptureFailed(Exception):
    """A capture that came to nothing.

    Args:
        branch: place of the one that raised the error; None if it was none of them.
        error: the first one.
    """

    def __init__(self, branch: int | None, error: Exception) -> None:
        super().__init__(str(error))
        self.branch = branch
        self.error = error


class Capture:
    """Captures branches side by side, on streams that they share when they are more, and with them their memory.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None
        self._main: torch.cuda.Stream | None = None  # that captures begin on
        self._streams: list[torch.cuda.Stream] = []

    def stream(self, place: int) -> torch.cuda.Stream:
        """Return the stream of that place among those which branches are captured on."""
        while len(self._streams) <= place:
            self._streams.append(torch.cuda.Stream(self.device))
        return self._streams[place]

    def record(
        self,
        begin: Callable[[], None],
        branches: Sequence[Callable[[], None]],
        end: Callable[[], None],
        num_streams: int,
    ) -> Callable[[], None]:
        """Capture `begin`, then the branches, then `end`; returns what replays all of it.

        An error in a branch is kept until all streams are joined and the capture is over: raised in its midst, torch
        would tell of unjoined work instead, and go on taking its pool for one that records.

        Raises:
            CaptureFailed: with the first error; what was allocated for it is free.
        """
        current, graph = torch.cuda.current_stream(self.device), torch.cuda.CUDAGraph()
        main = self._main = torch.cuda.Stream(self.device) if self._main is None else self._main
        pool = self._pool = torch.cuda.graph_pool_handle() if self._pool is None else self._pool
        streams = [self.stream(place) for place in range(min(num_streams, len(branches)))]
        failed: CaptureFailed | None = None
        try:
            with torch.cuda.graph(graph, pool=pool, stream=main):
                begin()
                for stream in streams:
                    stream.wait_stream(main)
                for place, branch in enumerate(branches):
                    try:
                        with torch.cuda.stream(streams[place % len(streams)]):
                            branch()
                    except Exception as error:
                        failed = CaptureFailed(place, error)
                        break
                for stream in streams:
                    main.wait_stream(stream)
                if failed is None:
                    end()
        except Exception as error:  # some errors end the capture itself
            failed = failed or CaptureFailed(None, error)
            self._mend(current, pool)
        if failed is None:
            return graph.replay
        traceback.clear_frames(failed.error.__traceback__)  # they hold the memory of a step
        with suppress(Exception):
            graph.reset()
        try:
            raise failed from failed.error
        finally:
            del failed  # which would hold this frame, and this frame it

    def _mend(self, current: torch.cuda.Stream, pool: Any) -> None:
        """Undo what torch up to 2.12 leaves of a capture whose end raised an error."""
        torch.cuda.set_stream(current)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        with suppress(Exception):  # later versions have done it themselves
            torch._C._cuda_endAllocateToPool(index, pool)
        self._pool = None  # that one may go on counting as one that records

    def forget(self) -> None:
        """Give the memory of the graphs back once they are gone."""
        self._pool = None


@contextmanager
def waits() -> Iterator[list[str]]:
    """Note inside where the host waits for the device; the list has an entry for each time."""
    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for each in caught:
        if WAITS in str(each.message):
            found.append(f"{each.filename}:{each.lineno}")
        elif OF_THE_MODE not in str(each.message):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno, source=each.source)
