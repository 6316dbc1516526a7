"""Tasks of Ray, one for each array, on a cluster whose machines share a file system."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

from losslens.build import require
from losslens.console import counted
from losslens.sweep.queue import QueuedArray


class RayTasks:
    """A task for each array; a task whose node is lost is retried on another one, and resumes.

    Args:
        address: of the cluster, such as `auto` or `ray://host:10001`; None starts one on this machine.
        cpus: cores for each task.
        gpus: GPUs for each task, also a fraction; `auto`: one if there are any.
        retries: on other nodes, if one is lost.

    Raises:
        ValueError: if Ray is not installed.
    """

    def __init__(self, address: str | None, cpus: float, gpus: float | str, retries: int) -> None:
        require("hydra/launcher=ray", ["ray"], "ray")
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.retries = retries
        self.tasks: list[Any] = []

    def max_jobs(self) -> int:
        """Return how many tasks fit onto the cluster.

        Raises:
            ValueError: if no task fits.
        """
        import ray

        if not ray.is_initialized():
            handler = signal.getsignal(signal.SIGTERM)
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process at once
        resources: dict[str, float] = ray.cluster_resources()
        if self.gpus == "auto":
            self.gpus = 1.0 if resources.get("GPU") else 0.0
        wanted = {"CPU": self.cpus, "GPU": float(self.gpus)}
        slots = min(int(resources.get(kind, 0) / amount) for kind, amount in wanted.items() if amount)
        if not slots:
            raise ValueError(f"Ray has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs: too few")
        return slots

    def submit(self, arrays: Sequence[QueuedArray]) -> str:
        """Submit the tasks."""
        import ray

        passed = {name: os.environ[name] for name in ("PYTHONPATH", "LOSSLENS_CACHE") if name in os.environ}
        remote: Any = ray.remote(
            num_cpus=self.cpus,
            num_gpus=float(self.gpus),
            max_retries=self.retries,
            runtime_env={"env_vars": passed} if passed else {},
        )
        task = remote(train_in_task)
        self.tasks = [task.remote(str(array.file.resolve()), os.getcwd()) for array in arrays]
        return f"{counted(len(arrays), 'array')} as tasks of Ray at {ray.get_runtime_context().gcs_address}"

    def done(self) -> bool:
        """Return whether all tasks have ended, with or without an error."""
        import ray

        return not ray.wait(self.tasks, num_returns=len(self.tasks), timeout=0)[1]

    def cancel(self) -> None:
        """Interrupt the tasks."""
        import ray

        for task in self.tasks:
            ray.cancel(task, force=False)

    def detached_message(self) -> None:
        """Return None: they end with this process."""

    def error(self) -> str | None:
        """Return what the first task that failed says."""
        import ray

        for task in self.tasks:
            try:
                ray.get(task, timeout=0)
            except Exception as error:
                return str(error).strip().splitlines()[-1]
        return None


def train_in_task(file: str, place: str) -> None:
    """Train an array inside a task, in the folder of the command."""
    from losslens.run.worker import train_one

    os.chdir(place)
    stop = train_one(file)
    if stop and stop.reason != "SIGINT":  # SIGINT: cancelled; others: the node is ending, Ray retries elsewhere
        os._exit(stop.exit_code)
