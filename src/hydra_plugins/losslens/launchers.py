"""The launcher of a multirun. Every Hydra program imports this module: no heavy imports at its top."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class ArrayLauncher(Launcher):
    """Compose the configuration of every job and train them all as one sweep.

    Args:
        executor: import path of a `losslens.run.distribute.Executor`, which trains elsewhere; None: this process.
    """

    def __init__(self, executor: str | None = None, **settings: Any) -> None:
        self.executor = executor
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs; the task function is not called, since it takes one job at a time."""
        self.hydra_context = hydra_context
        self.config = config

    def make_executor(self) -> Any:
        """Make the executor; None for this process.

        Raises:
            ValueError: if it refuses its settings.
        """
        from losslens.build import build, plain_settings
        from losslens.settings import check_settings

        settings = plain_settings(OmegaConf.create(self.settings))
        check_settings({"hydra": {"launcher": {"executor": self.executor, **settings}}})
        return None if self.executor is None else build({"_target_": self.executor, **settings})

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train all jobs; returns the results of their variants.

        Raises:
            VariantsFailed: after all others are done, if a job failed.
        """
        from losslens.run.start import start_sweep
        from losslens.variant import Job

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
        results = start_sweep(jobs, Path(self.config.hydra.sweep.dir), self.make_executor())
        if jobs[0][0].plan:
            return []
        for job, result in zip(returns, results, strict=True):
            job.status, job.return_value = JobStatus.COMPLETED, result
        return returns
