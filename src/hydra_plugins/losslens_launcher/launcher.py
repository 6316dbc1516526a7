"""Hands all jobs of a multirun over at once. Every Hydra program imports this module: nothing heavy at its top."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
            jobs.append((task, list(config.hydra.overrides.task), config.hydra.runtime.choices))
            returns.append(JobReturn(overrides=jobs[-1][1], cfg=task, hydra_cfg=config))
        results = start_sweep(jobs, Path(self.config.hydra.sweep.dir))
        for job, result in zip(returns, results, strict=True):
            job.status, job.return_value = JobStatus.COMPLETED, result
        return returns


@dataclass
class ArrayLauncherConfig:
    """Configuration of the launcher."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.ArrayLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="array", node=ArrayLauncherConfig, provider="losslens")
