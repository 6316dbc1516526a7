"""Jobs of Slurm, one for each array, in a job array."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from losslens.build import require
from losslens.console import counted, joined_lines
from losslens.sweep.arrays import StoredArray

REQUEUED_AFTER = ("SIGUSR1", "SIGUSR2")  # Slurm's notice of a limit of time or a preemption
ASK_EVERY = 5.0  # seconds
JOBS = "jobs"  # folder of scripts and output, beside the arrays


class SlurmJobs:
    """A job for each array; one that is told to make room, or whose node fails, is queued again and goes on.

    Args:
        options: of `submitit.SlurmExecutor.update_parameters`, such as `partition` and `time` in minutes.
        max_jobs: that run at once.

    Raises:
        ValueError: if submitit is not installed.
    """

    def __init__(self, options: Mapping[str, Any], max_jobs: int) -> None:
        require("hydra/launcher=slurm", ["submitit"], "slurm")
        self.options = dict(options)
        self.max_jobs = max_jobs
        self.job = ""
        self._asked_at = 0.0

    def num_slots(self) -> int:
        """Return how many jobs run at once."""
        return self.max_jobs

    def start(self, arrays: Sequence[StoredArray]) -> str:
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
                array_parallelism=self.max_jobs,
                additional_parameters=extra,
                **self.options,
            )
            with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the error, too
                jobs = executor.map_array(train_in_job, [str(array.file.resolve()) for array in arrays])
        except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
            raise ValueError(f"Slurm takes no jobs: {joined_lines(error)}") from error
        self.job = jobs[0].job_id.partition("_")[0]
        return f"{counted(len(arrays), 'array')} as jobs of Slurm: {self.job}; their output is in {folder}"

    def have_ended(self) -> bool:
        """Whether the queue has none of them any more."""
        if time.monotonic() - self._asked_at < ASK_EVERY:
            return False
        self._asked_at = time.monotonic()
        asked = subprocess.run(
            ["squeue", "--noheader", "--format=%i", f"--jobs={self.job}"], capture_output=True, text=True
        )
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return False  # the controller does not answer; it will
        return not asked.stdout.strip()

    def stop(self) -> None:
        """Cancel the jobs: those that run write their states first."""
        subprocess.run(["scancel", self.job], capture_output=True)

    def if_left_alone(self) -> str:
        """Say how to follow and how to end them."""
        return f"the jobs {self.job} go on in Slurm; end them with: scancel {self.job}"

    def trouble(self) -> None:
        """Return None: what the jobs printed stands in their files."""


def train_in_job(file: str) -> None:
    """Train an array inside of a job; queue the job again if Slurm wants its place."""
    from losslens.sweep.worker import train_one

    stop = train_one(file)
    if stop and stop.reason in REQUEUED_AFTER:
        name = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            name = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        subprocess.run(["scontrol", "requeue", name], check=True)
    if stop:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(stop.exit_code)  # with no result, since there is none yet
