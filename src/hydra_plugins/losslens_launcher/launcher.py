"""Hands all jobs of a multirun over at once. Every Hydra program imports this module: nothing heavy at its top."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class ArrayLauncher(Launcher):
    """Compose the configuration of every job and train them as one sweep, in this process."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs; the task function is not called, since it takes one job at a time."""
        self.hydra_context = hydra_context
        self.config = config

    def make_workers(self) -> Any:
        """Make the `losslens.sweep.distribute.Workers` that train; None for this process."""
        return None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train all jobs; returns what their variants left.

        Raises:
            VariantsFailed: after all others are done, if a job failed.
        """
        from losslens.sweep.start import Job, start_sweep

        setup_globals()
        returns: list[JobReturn] = []
        jobs: list[Job] = []
        for index, overrides in enumerate(job_overrides, start=initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = index
            task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            jobs.append((task, list(config.hydra.overrides.task), dict(config.hydra.runtime.choices)))
            returns.append(JobReturn(overrides=jobs[-1][1], cfg=task))  # Hydra's own part is large: dropped
        results = start_sweep(jobs, Path(self.config.hydra.sweep.dir), self.make_workers())
        if jobs[0][0].plan:
            return []
        for job, result in zip(returns, results, strict=True):
            job.status, job.return_value = JobStatus.COMPLETED, result
        return returns


class LocalLauncher(ArrayLauncher):
    """Train arrays in processes of their own on this machine.

    Args:
        processes: how many; `auto`: one for each GPU, or core.
    """

    def __init__(self, processes: int | str) -> None:
        self.processes = processes

    def make_workers(self) -> Any:
        """Make them."""
        from losslens.sweep.launchers.local import LocalProcesses

        return LocalProcesses(self.processes)


class SlurmLauncher(ArrayLauncher):
    """Train arrays as jobs of Slurm.

    Args:
        max_jobs: that run at once.
        options: of submitit; those that are None are left to Slurm.
    """

    def __init__(self, max_jobs: int, **options: Any) -> None:
        self.max_jobs = max_jobs
        self.options = {name: value for name, value in options.items() if value is not None}

    def make_workers(self) -> Any:
        """Make them."""
        from losslens.sweep.launchers.slurm import SlurmJobs

        plain = OmegaConf.to_container(OmegaConf.create(self.options), resolve=True)
        assert isinstance(plain, dict)
        return SlurmJobs({str(name): value for name, value in plain.items()}, self.max_jobs)


class RayLauncher(ArrayLauncher):
    """Train arrays as tasks of Ray.

    Args:
        address: of the cluster; None starts one on this machine.
        cpus: cores for each array.
        gpus: GPUs for each array, also a fraction; `auto`: one if there are any.
        retries: if a node is lost.
    """

    def __init__(self, address: str | None, cpus: float, gpus: float | str, retries: int) -> None:
        self.arguments = (address, cpus, gpus, retries)

    def make_workers(self) -> Any:
        """Make them."""
        from losslens.sweep.launchers.ray import RayTasks

        return RayTasks(*self.arguments)


@dataclass
class ArrayLauncherConfig:
    """All in this process."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.ArrayLauncher"


@dataclass
class LocalLauncherConfig:
    """A process for each GPU."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.LocalLauncher"
    processes: Any = "auto"


@dataclass
class SlurmLauncherConfig:
    """A job for each array: the names of sbatch, as submitit takes them."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.SlurmLauncher"
    max_jobs: int = 8  # at once
    partition: Any = None
    account: Any = None
    qos: Any = None
    constraint: Any = None
    time: int = 240  # minutes; then the job is queued again
    gpus_per_node: Any = None
    cpus_per_task: Any = None
    mem: Any = None
    signal_delay_s: int = 90  # before the time is over
    setup: Any = None  # lines of shell before it begins
    additional_parameters: Any = None  # any other option of sbatch


@dataclass
class RayLauncherConfig:
    """A task for each array."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.RayLauncher"
    address: Any = None
    cpus: float = 1
    gpus: Any = "auto"
    retries: int = 3


LAUNCHERS = {
    "array": ArrayLauncherConfig,
    "local_gpus": LocalLauncherConfig,
    "slurm": SlurmLauncherConfig,
    "ray": RayLauncherConfig,
}
for name, node in LAUNCHERS.items():
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="losslens")
