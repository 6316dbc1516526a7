"""Names of variants: readable, unique within a sweep, safe as folders and as TensorBoard runs."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

LOSS_KEYS = ("loss", "loss._target_", "loss/view", "loss/distance")  # together they decide which loss it is
MAX_LENGTH = 120  # file systems allow 255 bytes; paths on Windows 260 characters in all


def varied_values(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep of each job's values what differs between the jobs; the loss if nothing does.

    Args:
        jobs: for each job, values by configuration key, as `job_values` makes them.
    """
    keys = dict.fromkeys(key for job in jobs for key in job)
    varied = [key for key in keys if len({str(job.get(key)) for job in jobs}) > 1] or ["loss"]
    return [{key: job[key] for key in varied if key in job} for job in jobs]


def job_values(overrides: Sequence[str], choices: Mapping[str, Any]) -> dict[str, str]:
    """Read a job's values from its overrides; all that decides which loss it is becomes one readable `loss`.

    Args:
        overrides: of the task, for instance `["loss=luma", "seed=1"]`.
        choices: Hydra's `runtime.choices`.
    """
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides if not override.startswith("~"))
    _, target, *halves = (given.pop(key, None) for key in LOSS_KEYS)
    if target:
        loss = target.rpartition(".")[2]
    elif any(halves):
        loss = f"{choices['loss/view']}-{choices['loss/distance']}"
    else:
        loss = str(choices["loss"])
    return {"loss": loss, **{value_name(key): value for key, value in given.items()}}


def value_name(key: str) -> str:
    """Name the value that the key of an override decides, as `job_values` does."""
    key = key.lstrip("+")
    return "loss" if key in LOSS_KEYS else key.removeprefix("loss.")


def folder_name(values: Mapping[str, Any]) -> str:
    """Write values as a folder name, for instance `loss=luma,seed=1`; shortened with a hash if it would be too long."""
    return safe_name(",".join(f"{key}={value}" for key, value in values.items()))


def safe_name(name: str) -> str:
    """Make a name that stays in its folder and that every file system takes; shortened with a hash if too long."""
    safe = re.sub(r"[^\w=,.+-]+", "-", name, flags=re.ASCII).strip("-.")
    if len(safe) > MAX_LENGTH:
        safe = f"{safe[: MAX_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return safe or "variant"
