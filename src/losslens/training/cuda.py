"""Training an array on a GPU: the step of all variants is captured once as a CUDA graph, and replayed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from losslens.data.store import Chunk, gather
from losslens.training.buffers import Buffers
from losslens.training.member import Member
from losslens.training.memory import OutOfMemory
from losslens.training.rates import fixed_settings, learning_rates, next_rates
from losslens.training.stop import Stop

SPAN_SECONDS = 1.0  # after which the host looks whether it is asked to stop
WARM_UP_STEPS = 3  # taken one by one: libraries choose their kernels, optimizers make their state

Replay = Callable[[], None]


class GraphEngine:
    """Replays many steps without the host: batch indices, learning rates and what is logged live in device buffers.

    So do images that are staged for each chunk: it is copied into the buffer that the graph reads.

    Each variant computes on a stream of its own. The first steps are taken one by one; then the step of all is
    captured, anew when a variant leaves. When memory runs out in that, variants are captured in turns that share their
    memory. A variant that cannot be captured is told with the reason, and goes on one step at a time.

    Args:
        device: of the variants.
        say: takes lines for the user.
    """

    def __init__(self, device: torch.device, say: Callable[[str], None]) -> None:
        self.device = device
        self.say = say
        self.num_turns = 1
        self._refused: dict[Member, str] = {}
        self._settings: dict[Member, Any] = {}
        self._streams: dict[Member, torch.cuda.Stream] = {}
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)
        self._room = 0  # most steps of a chunk so far
        self._seconds_per_step = SPAN_SECONDS  # until it is measured
        self.close()

    def run(self, members: Sequence[Member], chunk: Chunk, stop: Stop) -> None:
        """Take the steps of a chunk with the members that still train; each has its row.

        Asked to stop, it ends after a span that takes about a second; then all have taken the same number of steps.
        """
        num_steps, taken = chunk.num_steps, 0
        self._room = max(self._room, num_steps)
        while taken < num_steps and not (stop and taken):
            span = min(num_steps - taken, max(1, int(SPAN_SECONDS / self._seconds_per_step)))
            begin = time.perf_counter()
            self._run_span(members, chunk.steps(taken, taken + span))
            self._seconds_per_step = (time.perf_counter() - begin) / span
            taken += span

    def _run_span(self, members: Sequence[Member], chunk: Chunk) -> None:
        end = chunk.num_steps
        rows = {member: row for row, member in enumerate(members) if member.active and not member.may_stop()}
        first = 0
        for member, row in rows.items():
            self._settings.setdefault(member, fixed_settings(member))
            if self._may_capture(member):
                first = min(end, max(0, WARM_UP_STEPS - (member.step - member.first_step)))
                self._take_steps(member, row, chunk, 0, first)
            else:
                self._take_steps(member, row, chunk, 0, end)
        warm = [member for member in rows if member.active and member not in self._refused]
        if first < end and warm:
            ready = [member for member in warm if self._may_capture(member)]
            room = end <= self._length and len(chunk.images) <= len(self._images)
            if ready and (ready != self._captured or not room):
                self._capture(ready, rows, chunk)
            for member in warm:
                if member in self._refused:
                    self._take_steps(member, rows[member], chunk, first, end)
            if self._captured:
                self._replay(chunk, first, end)
        for stream in self._streams.values():
            torch.cuda.current_stream().wait_stream(stream)

    def each(self, members: Sequence[Member], function: Callable[[Member], Any]) -> None:
        """Call a function for all members, one after another; an error ends its member's part in the array."""
        for member in members:
            try:
                function(member)
            except (Exception, SystemExit) as error:
                member.fail(error)

    def close(self) -> None:
        """Forget the graphs and the memory that they hold."""
        self._captured: list[Member] = []
        self._replays: list[Replay] = []
        self._length = 0
        self._images = torch.empty(0)
        self._logged: dict[Member, Buffers] = {}
        self._rates: dict[Member, Tensor] = {}
        self._pool: Any = None

    def _may_capture(self, member: Member) -> bool:
        """Whether nothing is known to speak against a graph; what does is told, once."""
        if member not in self._refused and (reason := self._obstacle(member)):
            self._refuse(member, reason)
        return member not in self._refused

    def _obstacle(self, member: Member) -> str | None:
        if member.peers:
            return "several processes train it"
        if member.has_step_hooks:
            return "a callback looks at every step"
        if member.random.drawn:
            return "it draws random numbers in its steps"
        if fixed_settings(member) != self._settings[member]:
            return "its schedule changes more than the learning rate"
        for state in member.optimizer.state.values():
            for name, value in state.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number or (isinstance(value, Tensor) and value.device.type != self.device.type):
                    return f"{type(member.optimizer).__name__} keeps its {name} on the host"
        return None

    def _refuse(self, member: Member, reason: str) -> None:
        self._refused[member] = reason
        self.say(f"{member.name}: trains one step at a time, without a CUDA graph: {reason}")

    def _take_steps(self, member: Member, row: int, chunk: Chunk, first: int, end: int) -> None:
        """Take steps without a graph; the host looks at the losses once, at the end."""
        losses: list[Tensor] = []
        begin = member.step
        try:
            with self._stream(member):
                for position in range(first, end):
                    indices, mirror = chunk.indices[row, position], chunk.mirror[row, position]
                    losses.append(member.train(gather(chunk.images, indices, mirror), look=False))
                    if member.step % member.trainer.log_every_n_steps == 0:
                        member.write_log(member.logged, member.step)
                    if member.may_stop():
                        break
                for step, loss in enumerate(torch.stack(losses).tolist() if losses else (), start=begin + 1):
                    member.check(loss, step)
        except OutOfMemory as error:
            member.fail(ValueError(f"{error}: use fewer pixels, a smaller data.batch_size or a smaller model"))
        except (Exception, SystemExit) as error:
            member.fail(error)

    def _capture(self, members: list[Member], rows: dict[Member, int], chunk: Chunk) -> None:
        """Capture the step of members, as many side by side as memory allows; refuse those for which it fails."""
        self.close()
        self._length = self._room
        self._indices, self._mirror = (
            part.new_zeros(len(part), self._length, *part.shape[2:]) for part in (chunk.indices, chunk.mirror)
        )
        self._images = chunk.images
        if chunk.staged:  # room for any chunk: variants of one order have images in common, in every chunk
            num_orders, _, batch_size = chunk.indices.unique(dim=0).shape
            most = max(len(chunk.images), num_orders * self._length * batch_size)
            self._images = chunk.images.new_empty(most, *chunk.images.shape[1:])
        self._rates = {
            member: torch.zeros(len(member.optimizer.param_groups), self._length, device=self.device)
            for member in members
        }
        self._logged = {member: Buffers([*member.logged, "loss"], self._counter, self._length) for member in members}
        steps = {member: self._captured_step(member, rows[member]) for member in members}
        while members:
            size = -(-len(members) // self.num_turns)
            turns = [members[start : start + size] for start in range(0, len(members), size)]
            try:
                self._replays = [self._record({member: steps[member] for member in turn}) for turn in turns]
            except (OutOfMemory, torch.OutOfMemoryError):
                self._replays = []
                if size > 1:
                    self.num_turns = min(2 * self.num_turns, len(members))
                    self.say(f"out of memory: from here on variants compute in {self.num_turns} turns")
                    continue
                for member in members:
                    self._refuse(member, "out of memory")
            except Exception as error:
                self._replays = []
                culprits = {member: self._trial(member, steps[member]) for member in members}
                if not any(culprits.values()):
                    culprits = dict.fromkeys(members, _first_line(error))
                for member, reason in culprits.items():
                    if reason:
                        self._refuse(member, reason)
            else:
                break
            members = [member for member in members if member not in self._refused]
        self._captured = members

    def _trial(self, member: Member, step: Callable[[], None]) -> str | None:
        """Capture one member alone, for nothing but the reason if that fails."""
        try:
            self._record({member: step})
        except Exception as error:
            return _first_line(error)
        return None

    def _captured_step(self, member: Member, row: int) -> Callable[[], None]:
        """Make a function that takes one optimizer step, with all it needs from device buffers."""
        images = self._images

        def step() -> None:
            indices, mirror = (part[row].index_select(0, self._counter)[0] for part in (self._indices, self._mirror))
            rates = self._rates[member].index_select(1, self._counter)[:, 0]
            logged, member.logged = member.logged, self._logged[member]
            try:
                with learning_rates(member, rates):
                    member.logged["loss"] = member.optimize(gather(images, indices, mirror), look=False)
            finally:
                member.logged = logged

        return step

    def _record(self, steps: dict[Member, Callable[[], None]]) -> Replay:
        """Capture steps side by side in one graph."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        for member in steps:
            member.optimizer.zero_grad()
        with torch.cuda.graph(graph, pool=self._pool):
            main = torch.cuda.current_stream()
            for member, step in steps.items():
                self._streams[member].wait_stream(main)
                with torch.cuda.stream(self._streams[member]):
                    step()
            for member in steps:  # only now, else each would wait for the one before
                main.wait_stream(self._streams[member])
        return graph.replay

    def _replay(self, chunk: Chunk, first: int, end: int) -> None:
        """Replay steps, then let the host see what they logged."""
        num_steps = end - first
        if chunk.staged:
            self._images[: len(chunk.images)].copy_(chunk.images)
        self._indices[:, :num_steps].copy_(chunk.indices[:, first:end])
        self._mirror[:, :num_steps].copy_(chunk.mirror[:, first:end])
        for member in self._captured:
            self._rates[member][:, :num_steps].copy_(next_rates(member, num_steps))
        self._counter.zero_()
        for _ in range(num_steps):
            for replay in self._replays:
                replay()
            self._counter.add_(1)
        values = torch.cat([torch.stack(list(self._logged[member].values())) for member in self._captured]).tolist()
        for member in self._captured:
            names = list(self._logged[member])
            logged = dict(zip(names, values, strict=False))
            values = values[len(names) :]
            try:
                self._look(member, logged, num_steps)
            except Exception as error:
                member.fail(error)

    def _look(self, member: Member, logged: dict[str, list[float]], num_steps: int) -> None:
        """Count replayed steps; look at their losses, and write what is due."""
        losses = logged.pop("loss")
        for position in range(num_steps):
            member.check(losses[position], member.step + 1)
            member.step += 1
            if member.step % member.trainer.log_every_n_steps == 0:
                member.write_log({name: values[position] for name, values in logged.items()}, member.step)

    @contextmanager
    def _stream(self, member: Member) -> Iterator[None]:
        """Compute on the member's own stream, after all that was asked for before."""
        if self.device.type != "cuda":  # where this is tested by its logic
            yield
            return
        if member not in self._streams:
            self._streams[member] = torch.cuda.Stream(self.device)
        self._streams[member].wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._streams[member]):
            yield


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
