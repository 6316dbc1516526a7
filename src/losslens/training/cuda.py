"""Train an array on a GPU: the step of all variants is captured once as a CUDA graph, and replayed."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losslens.data.store import Chunk, gather
from losslens.training.capture import Capture, CaptureFailed, waits
from losslens.training.rates import fixed_settings, next_rates, single_rates, snapshot
from losslens.training.shared_step import SharedStep
from losslens.training.stop import OutOfMemory, Stop, is_out_of_memory
from losslens.training.variant_trainer import VariantTrainer

SPAN_SECONDS = 1.0  # duration of a span, after which the host checks for a request to stop
SPAN_STEPS = 64  # longest span; while it is computed, the host checks the previous one
WARM_UP_STEPS = 3  # without a graph: libraries choose their kernels, optimizers make their state
NUM_STREAMS = 16  # variants that compute at once: more do not raise the rate at which a GPU starts kernels
NUM_THREADS = 8  # for pictures and files

OTHER_SETTINGS = "its schedule changes more than the learning rate"

Replay = Callable[[], None]


@dataclass(frozen=True)
class _Span:
    """Steps queued on the device.

    Args:
        names: of the values that each member logs.
        values: of all members in turn, float32 `(values, steps)`, on the CPU; valid once `done`.
        done: after the copy of the values; None on the CPU.
        begun: seconds of `perf_counter` when the steps were queued.
    """

    num_steps: int
    names: dict[VariantTrainer, list[str]]
    values: Tensor
    done: torch.cuda.Event | None
    begun: float


class GraphEngine:
    """Replay many steps without the host, which meanwhile checks the previous ones.

    Warm-up steps are taken one by one; the last of them shows which variants make the host wait. Then the step of all
    is captured, and again when a variant leaves. If memory runs out in that, fewer variants compute at once. A variant
    that cannot be captured is reported with the reason, and trains one step at a time.
    """

    def __init__(self, device: torch.device, say: Callable[[str], None]) -> None:
        self.device = device
        self.say = say
        self.num_streams = NUM_STREAMS
        self._refused: set[VariantTrainer] = set()
        self._settings: dict[VariantTrainer, Any] = {}
        self._capture = Capture(device)
        self._length = 0  # most steps of a span so far
        self._num_warm = 0  # warm-up steps taken
        self._seconds_per_step = SPAN_SECONDS  # a guess until it is measured
        self._waiting: _Span | None = None
        self._looked = 0.0  # time of the last check
        self.close()

    def run_steps(self, members: Sequence[VariantTrainer], chunk: Chunk, stop: Stop) -> None:
        """Take the steps of a chunk with the members that still train; each has its row.

        On a request to stop, it ends after two spans of about a second; then all have taken the same number of steps.
        """
        for member in members:
            if member.active and member not in self._settings:
                self._settings[member] = fixed_settings(member.optimizer)
        self._length = max(self._length, min(chunk.num_steps, SPAN_STEPS))
        self._given = self._event()
        if chunk.staged and self._shared and len(chunk.images) <= len(self._shared.images):
            self._shared.images[: len(chunk.images)].copy_(chunk.images)
        taken = 0
        while taken < chunk.num_steps and not (stop and taken):
            if any(member.should_stop for member in members if member.active):
                self._look()  # which members may stop depends on the steps taken
            left = min([chunk.num_steps - taken, *(_steps_to_stop(member) for member in members if member.active)])
            rows = {member: row for row, member in enumerate(members) if member.active and not member.wants_to_stop()}
            if self._num_warm < WARM_UP_STEPS:
                span = min(left, WARM_UP_STEPS - self._num_warm)
                self._num_warm += span
                for place, member in enumerate(rows):
                    self._take_steps(member, place, rows[member], chunk.steps(taken, taken + span))
            else:
                span = min(left, SPAN_STEPS, max(1, int(SPAN_SECONDS / self._seconds_per_step)))
                self._run_span(rows, chunk, taken, taken + span)
            taken += span
        self._look()
        if self._given is not None:
            for place in range(min(self.num_streams, len(members))):
                torch.cuda.current_stream().wait_stream(self._capture.stream(place))

    def _run_span(self, rows: dict[VariantTrainer, int], chunk: Chunk, first: int, end: int) -> None:
        """Replay the steps of captured variants, and take those of the others meanwhile."""
        begin = time.perf_counter()
        span = None
        while ready := [member for member in rows if member.active and self._may_capture(member)]:
            shared = self._shared
            fits = shared and shared.length >= end - first and len(shared.images) >= len(chunk.images)
            if not (fits and shared and shared.members == ready):
                self._look()
                self._capture_all([member for member in ready if member.active], chunk)
            elif rates := self._next_rates(ready, end - first):
                span = self._ask(rows, chunk.steps(first, end), rates)
                break
        if not ready:  # variants captured before may now train one step at a time
            self._look()
        for place, member in enumerate(rows):
            if member.active and member in self._refused:
                self._take_steps(member, place, rows[member], chunk.steps(first, end))
        self._look()
        self._waiting = span
        if span is None:
            self._seconds_per_step = (time.perf_counter() - begin) / (end - first)

    def call_each(
        self, members: Sequence[VariantTrainer], function: Callable[[VariantTrainer], Any], *, on_host: bool = False
    ) -> None:
        """Call a function for all members; an error ends its member's part in the array.

        Args:
            on_host: it draws and writes more than it computes: call it for several members at once.
        """

        def call(member: VariantTrainer) -> None:
            try:
                function(member)
            except (Exception, SystemExit) as error:
                member.fail(error)

        if on_host:
            with threads_of(self.device) as pool:
                list(pool.map(call, members))
        else:
            for member in members:
                call(member)

    def close(self) -> None:
        """Forget the graph and the memory that it holds."""
        self._shared: SharedStep | None = None
        self._replay: Replay | None = None
        self._capture.forget()

    def _may_capture(self, member: VariantTrainer) -> bool:
        """Return whether no obstacle to a graph is known; an obstacle is reported once."""
        if member not in self._refused and (reason := self._obstacle(member)):
            self._refuse(member, reason)
        return member not in self._refused

    def _obstacle(self, member: VariantTrainer) -> str | None:
        if member.has_step_hooks:
            return "a callback looks at every step"
        if member.random.drawn:
            return "it draws random numbers in its steps"
        if fixed_settings(member.optimizer) != self._settings[member]:
            return OTHER_SETTINGS
        for state in member.optimizer.state.values():
            for name, value in state.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number or (isinstance(value, Tensor) and value.device.type != self.device.type):
                    return f"{type(member.optimizer).__name__} keeps its {name} on the host"
        return None

    def _refuse(self, member: VariantTrainer, reason: str) -> None:
        self._refused.add(member)
        self.say(f"{member.name}: trains one step at a time, without a CUDA graph: {reason}")

    def _take_steps(self, member: VariantTrainer, place: int, row: int, chunk: Chunk) -> None:
        """Take steps without a graph, on the stream of that place; losses are checked once, at the end."""
        losses: list[Tensor] = []
        begin = member.global_step
        try:
            with self._stream(place):
                for indices, mirror in zip(chunk.indices[row], chunk.mirror[row], strict=True):
                    images, rates = gather(chunk.images, indices, mirror), single_rates(member.optimizer)
                    with self._watched(member):
                        losses.append(member.train(images, look=False, rates=rates))
                    if member.global_step % member.log_every_n_steps == 0:
                        member.write_log(member.logged, member.global_step)
                    if member.wants_to_stop():
                        break
                for step, loss in enumerate(torch.stack(losses).tolist() if losses else (), start=begin + 1):
                    member.check(loss, step)
        except OutOfMemory as error:
            member.fail(ValueError(f"{error}: use fewer pixels, a smaller data.batch_size or a smaller model"))
        except (Exception, SystemExit) as error:
            member.fail(error)

    @contextmanager
    def _watched(self, member: VariantTrainer) -> Iterator[None]:
        """Refuse a member whose last warm-up step makes the host wait for the device."""
        last = member.global_step - member.first_step == WARM_UP_STEPS - 1
        watch = last and self.device.type == "cuda" and self._may_capture(member)
        watching: AbstractContextManager[list[str]] = waits() if watch else nullcontext([])
        with watching as found:
            yield
        if found:
            self._refuse(member, f"in its step the host waits for the device: {found[0]}")

    def _capture_all(self, members: list[VariantTrainer], chunk: Chunk) -> None:
        """Capture the step of members, as many side by side as memory allows; refuse those for which it fails."""
        self.close()
        images, batch_size = chunk.images, chunk.indices.shape[-1]
        if chunk.staged:  # room for any chunk: variants of one order share images in every chunk
            most = chunk.indices.unique(dim=0).shape[0] * chunk.num_steps * batch_size
            images = images.new_zeros(max(len(images), most), *images.shape[1:])
            images[: len(chunk.images)].copy_(chunk.images)
        while members:
            for member in members:
                member.optimizer.zero_grad()
            shared = SharedStep(members, images, batch_size, self._length)
            try:
                self._replay = self._record(shared)
                self._shared = shared
                return
            except CaptureFailed as failed:
                if is_out_of_memory(failed.error) and self.num_streams > 1:
                    self.num_streams = max(1, min(self.num_streams, len(members)) // 2)
                    self.say(f"out of memory: from here on variants compute {self.num_streams} at a time")
                else:
                    reason = "out of memory" if is_out_of_memory(failed.error) else _first_line(failed.error)
                    for member in members if failed.branch is None else [members[failed.branch]]:
                        self._refuse(member, reason)
            self._capture.forget()
            members = [member for member in members if member not in self._refused]

    def _record(self, shared: SharedStep) -> Replay:
        return self._capture.record(shared.begin, shared.branches, shared.end, self.num_streams)

    def _next_rates(self, members: list[VariantTrainer], num_steps: int) -> list[Tensor] | None:
        """Step all schedules ahead; if a member must be refused after all, restore them and return None."""
        rates, back = [], []
        for member in members:
            back.append(snapshot(member.optimizer, member.schedule))
            try:
                rates.append(next_rates(member.optimizer, member.schedule, num_steps))
                if fixed_settings(member.optimizer) != self._settings[member]:
                    self._refuse(member, OTHER_SETTINGS)
            except Exception as error:  # raised again at the step to which it belongs
                self._refuse(member, _first_line(error))
            if member in self._refused:
                for restore in back:
                    restore()
                return None
        return rates

    def _ask(self, rows: dict[VariantTrainer, int], chunk: Chunk, rates: list[Tensor]) -> _Span:
        """Queue steps of the captured members, and the copy of what they log."""
        shared, begun, num_steps = self._shared, time.perf_counter(), chunk.num_steps
        assert shared is not None
        assert self._replay is not None
        mine = [rows[member] for member in shared.members]
        shared.prepare([chunk.indices[row] for row in mine], [chunk.mirror[row] for row in mine], rates)
        for _ in range(num_steps):
            self._replay()
        return _Span(num_steps, shared.names, shared.values(num_steps), self._event(), begun)

    def _look(self) -> None:
        """Wait for the queued steps, count them, check their losses, and write the logs that are due."""
        span, self._waiting = self._waiting, None
        if span is None:
            return
        if span.done is not None:
            span.done.synchronize()
        now = time.perf_counter()
        self._seconds_per_step = (now - max(self._looked, span.begun)) / span.num_steps
        self._looked = now
        values = span.values.tolist()
        for member, names in span.names.items():
            logged, values = dict(zip(names, values, strict=False)), values[len(names) :]
            if member.failure is None:
                try:
                    self._look_at(member, logged, span.num_steps)
                except Exception as error:
                    member.fail(error)

    def _look_at(self, member: VariantTrainer, logged: dict[str, list[float]], num_steps: int) -> None:
        losses = logged.pop("loss")
        for position in range(num_steps):
            member.check(losses[position], member.global_step + 1)
            member.global_step += 1
            member.log_if_due({name: values[position] for name, values in logged.items()})

    def _event(self) -> torch.cuda.Event | None:
        """Record an event after the work queued so far; None on the CPU."""
        return torch.cuda.current_stream().record_event() if self.device.type == "cuda" else None

    @contextmanager
    def _stream(self, place: int) -> Iterator[None]:
        """Compute on the stream of that place, after the work queued before this chunk."""
        if self._given is None:  # on the CPU, where tests check the logic
            yield
            return
        stream = self._capture.stream(place % self.num_streams)
        stream.wait_event(self._given)
        with torch.cuda.stream(stream):
            yield


def threads_of(device: torch.device) -> ThreadPoolExecutor:
    """Start threads for pictures and files, which compute on the device."""
    if device.type == "cuda":
        return ThreadPoolExecutor(NUM_THREADS, initializer=torch.cuda.set_device, initargs=(device,))
    return ThreadPoolExecutor(NUM_THREADS)


def _steps_to_stop(member: VariantTrainer) -> int:
    """Return how many steps a member may take before it must be checked for a stop."""
    least = member.min_steps or 0
    return least - member.global_step if member.should_stop and least > member.global_step else SPAN_STEPS


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
