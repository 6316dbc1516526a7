"""The way from Hydra's configurations to training. Light to import: what is heavy is imported once it is needed."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

Job = tuple[DictConfig, list[str], Mapping[str, Any]]


def start_run(config: DictConfig) -> dict[str, float]:
    """Train one variant, a sweep of one, in Hydra's run folder; returns its metrics."""
    hydra = HydraConfig.get()
    job = (config, list(hydra.overrides.task), hydra.runtime.choices)
    with _fast_imports():
        from losslens.sweep.run import run_sweep
    return run_sweep([job], Path(hydra.runtime.output_dir), single=True)[0]


def start_sweep(jobs: Sequence[Job], folder: Path) -> list[dict[str, float]]:
    """Train the variants of a sweep in its folder; returns their metrics."""
    with _fast_imports():
        from losslens.sweep.run import run_sweep
    return run_sweep(jobs, folder)


@contextmanager
def _fast_imports() -> Iterator[None]:
    """Import without garbage collection: torch and lightning make a million objects that live until the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
