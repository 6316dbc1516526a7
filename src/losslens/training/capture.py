"""Capture CUDA graphs of many branches, and clean up after errors."""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

# torch's warning of an operation in which the host waits for the device; a graph cannot hold one.
WAITS = "called a synchronizing CUDA operation"
OF_THE_MODE = "Synchronization debug mode"  # torch's warning that this mode is a prototype


class CaptureFailed(Exception):
    """A capture failed.

    Args:
        branch: place of the branch that raised the error; None if none of them did.
    """

    def __init__(self, branch: int | None, error: Exception) -> None:
        super().__init__(str(error))
        self.branch = branch
        self.error = error


class Capture:
    """Capture branches side by side on a limited number of streams; those on one stream share its memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None
        self._main: torch.cuda.Stream | None = None  # on which captures begin
        self._streams: list[torch.cuda.Stream] = []

    def stream(self, place: int) -> torch.cuda.Stream:
        """Return the stream of that place among those on which branches are captured."""
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
        """Capture `begin`, then the branches, then `end`; returns a function that replays them.

        An error in a branch is kept until all streams are joined and the capture has ended: raised earlier, torch would
        report unjoined work instead, and treat its pool as recording from then on.

        Raises:
            CaptureFailed: with the first error; memory that the capture allocated is free.
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
        traceback.clear_frames(failed.error.__traceback__)  # frames hold the memory of a step
        with suppress(Exception):
            graph.reset()
        try:
            raise failed from failed.error
        finally:
            del failed  # a reference cycle with this frame

    def _mend(self, current: torch.cuda.Stream, pool: Any) -> None:
        """Clean up after a capture whose end raised an error, which torch up to 2.12 does not."""
        torch.cuda.set_stream(current)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        with suppress(Exception):  # later versions have done so
            torch._C._cuda_endAllocateToPool(index, pool)
        self._pool = None  # torch may still treat the old one as recording

    def forget(self) -> None:
        """Release the memory of the graphs once they are gone."""
        self._pool = None


@contextmanager
def waits() -> Iterator[list[str]]:
    """List the places, `file:line`, at which the host waits for the device inside the block."""
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
