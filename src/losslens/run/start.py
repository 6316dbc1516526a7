"""Start training from Hydra's configurations. Heavy packages are imported only once they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from losslens.build import build, plain_settings
from losslens.console import fast_imports
from losslens.files import removed_if_empty
from losslens.settings import check_settings
from losslens.sweep.variants import COMMAND_KEYS
from losslens.variant import Job

if TYPE_CHECKING:
    from losslens.sweep.results import VariantResult

RESUME_KEYS = ("resume", "report", "retry_failed", "fail_fast")
OPTIMIZE_ALONE = "optimize=METRIC says what a search is for: it goes with -m hydra/sweeper=optuna"


def start_run(config: DictConfig) -> None:
    """Train one variant in Hydra's run folder, or resume the sweep that `resume` names."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with removed_if_empty(folder):
        _start(config, folder)


def start_sweep(jobs: Sequence[Job], folder: Path, executor: Any) -> "list[VariantResult]":
    """Train the variants of a sweep in its folder; returns their results.

    Args:
        jobs: configuration, overrides and Hydra's choices of each variant.
        executor: of a launcher; None: this process.

    Raises:
        ValueError: if `resume` is given, too, or `optimize` without a search.
        VariantsFailed: after all others are done, if a variant failed.
    """
    check_settings(plain_settings(OmegaConf.masked_copy(jobs[0][0], list(COMMAND_KEYS))))
    if jobs[0][0].optimize is not None and not jobs[0][0].searched:
        raise ValueError(OPTIMIZE_ALONE)
    if jobs[0][0].resume is not None:
        raise ValueError("resume=FOLDER knows its variants: it goes without -m")
    with fast_imports():
        from losslens.run.command import run_sweep
    return run_sweep(jobs, folder, executor=executor)


def _start(config: DictConfig, folder: Path) -> None:
    hydra = HydraConfig.get()
    check_settings(plain_settings(OmegaConf.masked_copy(config, list(COMMAND_KEYS))))
    if config.sweep is not None:
        raise ValueError("sweep=NAME names a sweep of several variants: it goes with -m")
    if config.optimize is not None:
        raise ValueError(OPTIMIZE_ALONE)
    with fast_imports():
        from losslens.run.command import resume_sweep, run_sweep
    launcher = build(hydra.launcher)
    executor = launcher.make_executor() if hasattr(launcher, "make_executor") else None
    if config.resume is not None:
        others = [each for each in hydra.overrides.task if each.partition("=")[0] not in RESUME_KEYS]
        if others:
            raise ValueError(
                f"resume=FOLDER goes on with the settings of that folder, and not with {', '.join(others)}: "
                "leave them out, or begin a new sweep"
            )
        resume_sweep(folder, config, executor)
    else:
        job = (config, list(hydra.overrides.task), hydra.runtime.choices)
        run_sweep([job], folder, single=True, executor=executor)
