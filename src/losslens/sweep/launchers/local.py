"""Processes on this machine, one for each GPU, that take arrays from one queue."""

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from losslens.sweep.arrays import StoredArray
from losslens.sweep.plan import as_count


class LocalProcesses:
    """One process for each GPU; without GPUs the cores are divided among processes.

    A process that is killed is started anew, as long as there is something to do.

    Args:
        processes: how many; `auto`: one for each GPU, or core.
    """

    def __init__(self, processes: int | str) -> None:
        self.num_gpus = torch.cuda.device_count()
        automatic = self.num_gpus or torch.get_num_threads()
        self.processes = automatic if processes == "auto" else as_count(processes, "hydra.launcher.processes")
        self.arrays: Sequence[StoredArray] = []
        self.running: dict[int, subprocess.Popen[bytes]] = {}  # by slot
        self.stopping = False

    def num_slots(self) -> int:
        """Return the number of processes."""
        return self.processes

    def start(self, arrays: Sequence[StoredArray]) -> str:
        """Start the processes."""
        self.arrays = arrays
        count = min(self.processes, len(arrays))
        for slot in range(count):
            self._start(slot)
        where = f"on {self.num_gpus} GPUs" if self.num_gpus else "on the CPU"
        return f"{len(arrays)} arrays, {count} processes {where}"

    def have_ended(self) -> bool:
        """Whether none is left; one that was killed is started anew if arrays are left that nobody has."""
        for slot, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[slot]
                if not self.stopping and any(not array.has_ended and not array.is_taken for array in self.arrays):
                    self._start(slot)
        return not self.running

    def stop(self) -> None:
        """Ask all to stop."""
        self.stopping = True
        for process in self.running.values():
            process.terminate()

    def if_left_alone(self) -> None:
        """Return None: they end with this process."""

    def _start(self, slot: int) -> None:
        own = {"CUDA_VISIBLE_DEVICES": str(slot % self.num_gpus)} if self.num_gpus else {}
        threads = max(1, torch.get_num_threads() // self.processes)
        self.running[slot] = subprocess.Popen(
            [
                *(sys.executable, "-m", "losslens.sweep.worker", "--parent", str(os.getpid())),
                *(str(array.file) for array in self.arrays),
            ],
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **own},
            stdout=subprocess.DEVNULL,  # it writes to the sweep's log, too
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the process of the command, which tells them
        )
