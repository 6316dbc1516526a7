"""Jobs of Slurm, one for each array, in a job array."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from losslens.build import require
from losslens.console import counted, joined_lines
from losslens.sweep.queue import QueuedArray

REQUEUED_AFTER = ("SIGUSR1", "SIGUSR2")  # sent by Slurm before a time limit or a preemption
ASK_EVERY = 5.0  # seconds
JOBS = "jobs"  # folder of scripts and output, beside the arrays


class SlurmJobs:
    """A job for each array; a job that is preempted, or whose node fails, is requeued and resumes.

    Args:
        max_jobs: jobs that run at once.
        **options: of `submitit.SlurmExecutor.update_parameters`, such as `partition` and `time` in minutes; those that
            are None are left to Slurm.

    Raises:
        ValueError: if submitit is not installed.
    """

    def __init__(self, max_jobs: int, **options: Any) -> None:
        require("hydra/launcher=slurm", ["submitit"], "slurm")
        self.at_once = max_jobs
        self.options = {name: value for name, value in options.items() if value is not None}
        self.job = ""
        self._asked_at = 0.0

    def max_jobs(self) -> int:
        """Return how many jobs run at once."""
        return self.at_once

    def submit(self, arrays: Sequence[QueuedArray]) -> str:
        """Submit the jobs.

        Raises:
            ValueError: if Slurm is not here, or refuses them.
        """
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        folder = arrays[0].file.parent.resolve() / JOBS
        try:
            executor = submitit.SlurmExecutor(folder=folder, python=sys.executable)
            extra = {"requeue": True, **self.options.pop("additional_parameters", {})}
            executor.update_parameters(
                job_name=f"losslens-{arrays[0].sweep.name}",
                array_parallelism=self.at_once,
                additional_parameters=extra,
                **self.options,
            )
            with contextlib.redirect_stderr(io.StringIO()):  # the error repeats sbatch's message
                jobs = executor.map_array(train_in_job, [str(array.file.resolve()) for array in arrays])
        except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
            raise ValueError(f"Slurm takes no jobs: {joined_lines(error)}") from error
        self.job = jobs[0].job_id.partition("_")[0]
        return f"{counted(len(arrays), 'array')} as jobs of Slurm: {self.job}; their output is in {folder}"

    def done(self) -> bool:
        """Return whether none of the jobs is in the queue any more."""
        if time.monotonic() - self._asked_at < ASK_EVERY:
            return False
        self._asked_at = time.monotonic()
        asked = subprocess.run(
            ["squeue", "--noheader", "--format=%i", f"--jobs={self.job}"], capture_output=True, text=True
        )
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return False  # the controller does not answer for now
        return not asked.stdout.strip()

    def cancel(self) -> None:
        """Cancel the jobs: those that run write their states first."""
        subprocess.run(["scancel", self.job], capture_output=True)

    def detached_message(self) -> str:
        """Return a line on how to end the jobs."""
        return f"the jobs {self.job} go on in Slurm; end them with: scancel {self.job}"

    def error(self) -> None:
        """Return None: the jobs' output is in their files."""


def train_in_job(file: str) -> None:
    """Train an array inside a job; requeue the job if Slurm ends it early."""
    from losslens.run.worker import train_one

    stop = train_one(file)
    if stop and stop.reason in REQUEUED_AFTER:
        name = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            name = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        subprocess.run(["scontrol", "requeue", name], check=True)
    if stop:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(stop.exit_code)  # so that submitit records no result
