"""Train an array on the CPU: variants in parallel worker threads, each with its share of the cores."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock

import torch

from losslens.data.store import Chunk, gather
from losslens.training.stop import OutOfMemory, Stop
from losslens.training.variant_trainer import VariantTrainer


class ThreadEngine:
    """Every worker takes the next step of the variant that waits longest, so that all cores are busy to the end.

    Which worker takes a step does not change it: each computes with the same number of threads.

    Args:
        num_workers: variants that compute at once.
        num_threads: of PyTorch, per worker.
    """

    def __init__(self, num_workers: int, num_threads: int, say: Callable[[str], None]) -> None:
        self.num_workers = num_workers
        self.num_threads = num_threads
        self.say = say
        self._pool = ThreadPoolExecutor(num_workers, "array", self._start_worker)

    def run_steps(self, members: Sequence[VariantTrainer], chunk: Chunk, stop: Stop) -> None:
        """Take the steps of a chunk with the members that still train; each has its row.

        On a request to stop, it ends as soon as all have taken the same number of steps.
        """
        num_steps = chunk.num_steps
        rows = {member: row for row, member in enumerate(members)}
        first = {member: member.global_step for member in members}
        lock, limits = Lock(), [num_steps]

        def limit() -> int:
            """Return how many steps all take: one more than the furthest, which another worker may be computing."""
            if not stop:
                return num_steps
            with lock:
                if len(limits) == 1:
                    limits.append(min(num_steps, 1 + max(member.global_step - first[member] for member in members)))
                return limits[-1]

        def step(member: VariantTrainer) -> bool:
            position = member.global_step - first[member]
            indices, mirror = chunk.indices[rows[member], position], chunk.mirror[rows[member], position]
            member.train(gather(chunk.images, indices, mirror), look=True)
            member.log_if_due(member.logged)
            return member.global_step - first[member] < limit() and not member.wants_to_stop()

        self._repeat([member for member in members if member.active], step)

    def call_each(
        self, members: Sequence[VariantTrainer], function: Callable[[VariantTrainer], None], *, on_host: bool = False
    ) -> None:
        """Call a function once for each member, in parallel; an error ends its member's part in the array only."""
        self._repeat(members, function)

    def _repeat(self, members: Sequence[VariantTrainer], function: Callable[[VariantTrainer], bool | None]) -> None:
        """Call a function for each member, in parallel, for as long as it returns true.

        When memory runs out, the call is repeated, and from then on fewer members compute at once.
        """
        waiting = deque(members)
        self._cancelled = False
        while waiting:  # repeats if a member was put back after the other workers had ended
            if self.num_workers == 1:
                self._work(waiting, function)
                return
            futures = [self._pool.submit(self._work, waiting, function) for _ in range(self.num_workers)]
            try:
                wait(futures)
            except BaseException:
                self._cancelled = True
                wait(futures)
                raise
            for future in futures:
                future.result()

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown()

    def _work(self, waiting: deque[VariantTrainer], function: Callable[[VariantTrainer], bool | None]) -> None:
        while not self._cancelled:
            try:
                member = waiting.popleft()
            except IndexError:
                return
            try:
                again = function(member)
            except OutOfMemory as error:
                if self.num_workers > 1:
                    self.num_workers -= 1
                    waiting.appendleft(member)
                    self.say(f"out of memory: from here on {self.num_workers} variants compute at once")
                    return
                member.fail(ValueError(f"{error}: use fewer pixels, a smaller data.batch_size or a smaller model"))
            except (Exception, SystemExit) as error:
                member.fail(error)
            else:
                if again:
                    waiting.append(member)

    def _start_worker(self) -> None:
        torch.set_num_threads(self.num_threads)
