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
        """Train all jobs; returns their metrics.

        Raises:
            ValueError: after all others are done, if a job failed.
        """
        from losslens.sweep.start import start_sweep

        setup_globals()
        returns = []
        for index, overrides in enumerate(job_overrides, start=initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = index
            task, hydra = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), config.hydra
            returns.append(JobReturn(overrides=list(hydra.overrides.task), cfg=task, hydra_cfg=hydra))
        outcomes = start_sweep(
            [(job.cfg, list(job.overrides or ()), job.hydra_cfg.runtime.choices) for job in returns],
            Path(self.config.hydra.sweep.dir),
        )
        for job, metrics in zip(returns, outcomes, strict=True):
            job.status, job.return_value = JobStatus.COMPLETED, metrics
        return returns


@dataclass
class ArrayLauncherConfig:
    """Configuration of the launcher."""

    _target_: str = "hydra_plugins.losslens_launcher.launcher.ArrayLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="array", node=ArrayLauncherConfig, provider="losslens")
