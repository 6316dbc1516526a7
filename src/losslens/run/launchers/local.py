"""Processes on this machine, one for each GPU, that take arrays from one queue."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from losslens.build import as_count
from losslens.console import counted
from losslens.sweep.queue import QueuedArray, queued_arrays

MAX_WITHOUT_PROGRESS = 6  # consecutive processes without progress; an array is given up after three


class LocalProcesses:
    """One process for each GPU; without GPUs the cores are divided among processes.

    A killed process is restarted as long as arrays are left.

    Args:
        processes: `auto`: one for each GPU, or core.
    """

    def __init__(self, processes: int | str) -> None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        self.gpus = visible.split(",")[:count] if visible else [str(number) for number in range(count)]
        automatic = len(self.gpus) or torch.get_num_threads()
        self.processes = automatic if processes == "auto" else as_count(processes, "hydra.launcher.processes")
        self.arrays: Sequence[QueuedArray] = []
        self.running: dict[int, subprocess.Popen[bytes]] = {}  # by slot
        self.stopping = False
        self._at_start: dict[int, str] = {}
        self._without_progress = 0  # consecutive processes that ended without progress

    def max_jobs(self) -> int:
        """Return the number of processes."""
        return self.processes

    def submit(self, arrays: Sequence[QueuedArray]) -> str:
        """Start the processes."""
        self.arrays = arrays
        count = min(self.processes, len(arrays))
        for slot in range(count):
            self._start(slot)
        where = f"on {counted(len(self.gpus), 'GPU')}" if self.gpus else "on the CPU"
        return f"{counted(len(arrays), 'array')}, {counted(count, 'process', 'processes')} {where}"

    def done(self) -> bool:
        """Return whether no process is left; killed ones are restarted if unclaimed arrays are left."""
        for slot, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[slot]
            gained = process.returncode == 0 or self._gained() != self._at_start[slot]
            self._without_progress = 0 if gained else self._without_progress + 1
            if self.stopping or self._without_progress >= MAX_WITHOUT_PROGRESS:
                continue
            if any(not array.has_ended and not array.is_claimed for array in self.arrays):
                self._start(slot)
        return not self.running

    def cancel(self) -> None:
        """Ask all processes to stop."""
        self.stopping = True
        for process in self.running.values():
            process.terminate()

    def detached_message(self) -> None:
        """Return None: they end with this process."""

    def error(self) -> str | None:
        """Return the last line that a process printed, if too many ended without progress."""
        if self._without_progress < MAX_WITHOUT_PROGRESS:
            return None
        lines = [line for file in self._folder.glob("worker-*.txt") for line in file.read_text().splitlines() if line]
        return lines[-1] if lines else "they were killed"

    @property
    def _folder(self) -> Path:
        return self.arrays[0].file.parent

    def _gained(self) -> str:
        """Return a text that changes with every progress."""
        return "".join(array.file.name + array.file.read_text() for array in queued_arrays(self.arrays[0].sweep))

    def _start(self, slot: int) -> None:
        own = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus and self.processes > 1 else {}
        threads = max(1, torch.get_num_threads() // self.processes)
        self._at_start[slot] = self._gained()
        with (self._folder / f"worker-{slot}.txt").open("w") as output:
            self.running[slot] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "losslens.run.worker", str(self.arrays[0].sweep)),
                    *("--parent", str(os.getpid())),
                ],
                env={**os.environ, "OMP_NUM_THREADS": str(threads), **own},
                stdout=subprocess.DEVNULL,  # it writes to the sweep's log, too
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only the command, which then stops these
            )
