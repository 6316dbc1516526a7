"""Captures are begun, left and mended in order: by a stand-in that keeps torch's protocol and counts."""

import gc
import warnings
from contextlib import contextmanager

import pytest
import torch

from losslens.training import capture as capture_module
from losslens.training.capture import Capture, CaptureFailed, waits


class FakeCuda:
    """Streams, captures and pools as torch 2.11 keeps them: a capture that breaks leaves its pool recording."""

    def __init__(self):
        self.default = self.current = self.Stream()
        self.capturing = set()  # streams that belong to the capture
        self.invalid = None
        self.recording = set()  # pools
        self.allocated = {}  # pool: blocks
        self.joined = True

    def install(self, monkeypatch):
        fake = type("torch", (), {"cuda": self, "_C": self, "device": torch.device})
        monkeypatch.setattr(capture_module, "torch", fake)
        return self

    @staticmethod
    def Stream(*_):
        fake = FakeStream()
        return fake

    def current_stream(self, *_):
        return self.current

    def current_device(self):
        return 0

    def set_stream(self, stream):
        self.current = stream

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def CUDAGraph(self):
        return FakeGraph()

    def graph_pool_handle(self):
        return object()

    @contextmanager
    def graph(self, graph, pool, stream):
        if pool in self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.recording.add(pool)
        self.pool, self.invalid = pool, None
        self.current = self.capture_stream = stream
        self.capturing = {self.capture_stream}
        FakeStream.cuda = self
        try:
            yield
        finally:  # capture_end throws before it ends the pool, and before the stream is restored
            unjoined = self.capturing - {self.capture_stream}
            self.capturing = set()
            if self.invalid or unjoined:
                raise RuntimeError(self.invalid or "capturing stream has unjoined work")
        self.recording.discard(pool)
        self.current = self.default

    def _cuda_endAllocateToPool(self, index, pool):
        self.recording.discard(pool)

    def work(self):
        """An operation on the current stream."""
        assert self.current in self.capturing, "a kernel outside of the capture"
        if self.invalid:
            raise RuntimeError(self.invalid)
        self.current.work += 1

    def wait(self):
        """An operation for which the host waits: it breaks the capture."""
        self.invalid = "operation failed due to a previous error during capture"
        raise RuntimeError("operation not permitted when stream is capturing")


class FakeStream:
    cuda = None

    def __init__(self):
        self.work = 0

    def wait_stream(self, other):
        capturing = self.cuda.capturing
        if self.cuda.invalid:
            raise RuntimeError(self.cuda.invalid)
        if self is self.cuda.capture_stream:  # a join
            capturing.discard(other)
        elif other in capturing:  # a fork
            capturing.add(self)


class FakeGraph:
    alive = 0

    def __init__(self):
        FakeGraph.alive += 1

    def __del__(self):
        FakeGraph.alive -= 1

    def reset(self):
        pass

    def replay(self):
        pass


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda().install(monkeypatch)


def record(capture, cuda, branches, num_streams=4):
    return capture.record(cuda.work, branches, cuda.work, num_streams)


def test_branches_share_streams(cuda):
    capture = Capture(torch.device("cuda"))
    record(capture, cuda, [cuda.work] * 10)
    assert [capture.stream(place).work for place in range(4)] == [3, 3, 2, 2]
    assert cuda.capture_stream.work == 2
    assert cuda.current is cuda.default
    assert not cuda.recording


class Torn(ValueError):
    pass


def tears():
    raise Torn("as somebody's loss raises it")


@pytest.fixture
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("how", ["raise", "memory", "wait"])
def test_a_capture_that_fails_leaves_no_damage(cuda, how):
    def memory():
        raise torch.OutOfMemoryError("CUDA out of memory")

    capture = Capture(torch.device("cuda"))
    replay = record(capture, cuda, [cuda.work] * 3)
    odd = {"raise": tears, "memory": memory, "wait": cuda.wait}[how]
    with pytest.raises(CaptureFailed) as failed:
        record(capture, cuda, [cuda.work, odd, cuda.work])
    assert failed.value.branch == 1
    expected = {"raise": Torn, "memory": torch.OutOfMemoryError, "wait": RuntimeError}[how]
    assert type(failed.value.error) is expected
    assert "unjoined" not in str(failed.value)
    assert cuda.current is cuda.default
    assert not cuda.recording
    del failed  # and with it, without a collection of garbage, the graph and its memory
    assert FakeGraph.alive == (replay is not None)
    record(capture, cuda, [cuda.work, cuda.work])


def test_an_error_of_the_whole(cuda):
    capture = Capture(torch.device("cuda"))
    with pytest.raises(CaptureFailed) as failed:
        capture.record(tears, [cuda.work], cuda.work, 4)
    assert failed.value.branch is None
    record(capture, cuda, [cuda.work])


def test_the_host_is_seen_waiting(monkeypatch):
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step():
        with waits() as found:
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet ...", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        return found

    with pytest.warns(UserWarning, match="something else") as others:
        found = step()
    assert len(others) == 1
    assert len(found) == 1
    assert "test_capture.py:" in found[0]
    assert modes == ["default", "warn", 0]
