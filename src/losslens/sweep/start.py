"""The way from Hydra's configurations to training. Light to import: what is heavy is imported once it is needed."""

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from losslens.sweep.names import job_values

if TYPE_CHECKING:
    from losslens.report.results import VariantResult

RESUME_KEYS = ("resume", "report", "retry_failed", "fail_fast")
OPTIMIZE_ALONE = "optimize=METRIC says what a search is for: it goes with -m hydra/sweeper=optuna"
Job = tuple[DictConfig, list[str], Mapping[str, Any]]


def start_run(config: DictConfig) -> None:
    """Train one variant, a sweep of one, in Hydra's run folder, or go on with what `resume` names."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if config.sweep is not None:
        raise ValueError("sweep=NAME names a sweep of several variants: it goes with -m")
    if config.optimize is not None:
        raise ValueError(OPTIMIZE_ALONE)
    with fast_imports():
        from losslens.sweep.run import resume_sweep, run_sweep
    launcher = instantiate(hydra.launcher)
    workers = launcher.make_workers() if hasattr(launcher, "make_workers") else None
    if config.resume is not None:
        others = [each for each in hydra.overrides.task if each.partition("=")[0] not in RESUME_KEYS]
        if others:
            raise ValueError(
                f"resume=FOLDER goes on with the settings of that folder, and not with {', '.join(others)}: "
                "leave them out, or begin a new sweep"
            )
        resume_sweep(folder, config, workers)
    else:
        job = (config, list(hydra.overrides.task), hydra.runtime.choices)
        run_sweep([job], folder, single=True, workers=workers)


def start_sweep(jobs: Sequence[Job], folder: Path, workers: Any) -> "list[VariantResult]":
    """Train the variants of a sweep in its folder; returns what they left there.

    Args:
        jobs: configuration, overrides and Hydra's choices of each variant.
        folder: of the sweep.
        workers: of a launcher; None: this process.

    Raises:
        ValueError: if `resume` is given, too, or `optimize` without a search.
        VariantsFailed: after all others are done, if a variant failed.
    """
    if jobs[0][0].optimize is not None and not jobs[0][0].searched:
        raise ValueError(OPTIMIZE_ALONE)
    if jobs[0][0].resume is not None:
        raise ValueError("resume=FOLDER knows its variants: it goes without -m")
    with fast_imports():
        from losslens.sweep.run import run_sweep
    return run_sweep(jobs, folder, workers=workers)


def quote_paths(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Quote the values of some keys on a command line: names of variants have `=` and commas, which Hydra reads.

    Args:
        arguments: `key=value`.
        keys: whose values are paths, or lists of paths in brackets. What is quoted already stays as it is.
    """
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in keys and equals and value and not value.strip("[").startswith(('"', "'")):
            listed = value.startswith("[") and value.endswith("]")
            paths = [_quote(path) for path in (_split_paths(value[1:-1]) if listed else [value])]
            argument = f"{key}=[{','.join(paths)}]" if listed else f"{key}={paths[0]}"
        quoted.append(argument)
    return quoted


def _quote(path: str) -> str:
    path = path.strip().replace("'", "\\'")
    ending = len(path) - len(path.rstrip("\\"))  # backslashes are themselves to Hydra, but before a quote
    return f"'{path}{ending * chr(92)}'"


def _split_paths(text: str) -> list[str]:
    """Split at commas, but not at those inside of a path that exists."""
    paths: list[str] = []
    pieces = text.split(",")
    while pieces:
        lengths = range(len(pieces), 0, -1)
        length = next((n for n in lengths if Path(",".join(pieces[:n]).strip()).expanduser().exists()), 1)
        paths.append(",".join(pieces[:length]))
        pieces = pieces[length:]
    return paths


def path_list(value: object) -> list[str]:
    """Read a configured path, or list of paths."""
    return [str(each) for each in value] if isinstance(value, ListConfig) else [str(value)]


def compose_losses(config: DictConfig) -> dict[str, DictConfig]:
    """Find the configurations of the losses that `loss`, `losses` and `against` name, by name.

    Raises:
        ValueError: if `loss` and `losses` are both given, or `losses` is no list of names.
    """
    hydra = HydraConfig.get()
    found: dict[str, DictConfig] = {}
    if config.losses is None:
        found[job_values(hydra.overrides.task, hydra.runtime.choices)["loss"]] = config.loss
    else:
        given = [each for each in hydra.overrides.task if each.startswith("loss=")]
        if given:
            raise ValueError(f"{given[0]} and losses= are both given: use one of them")
        if not isinstance(config.losses, ListConfig) or not config.losses:
            raise ValueError(f"losses {config.losses} is no list of names: try 'losses=[l1,luma]'")
        found |= {str(name): _compose_loss(str(name)) for name in config.losses}
    if config.against is not None and config.against not in found:
        found[str(config.against)] = _compose_loss(str(config.against))
    return found


def _compose_loss(name: str) -> DictConfig:
    """Compose a choice of the group `loss`, as `loss=NAME` does."""
    paths = [each for each in HydraConfig.get().overrides.hydra if each.startswith("hydra.searchpath=")]
    loss = compose("lens", [f"loss={name}", *paths]).loss
    assert isinstance(loss, DictConfig)
    return loss


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import torch and lightning in two thirds of the time that they take by themselves.

    There is no garbage collection meanwhile: they make a million objects that live until the end. And torchmetrics,
    which lightning imports, imports `scipy.signal` only to look for a function that audio metrics want: it gets a
    stand-in.
    """
    gc.disable()
    stand_in = ModuleType("scipy.signal")
    stand_in.hamming = None  # type: ignore[attr-defined]
    absent = sys.modules.setdefault("scipy.signal", stand_in) is stand_in
    try:
        yield
    finally:
        if absent:
            del sys.modules["scipy.signal"]
        gc.freeze()
        atexit.register(gc.unfreeze)  # else triton complains of leaks at the end
        gc.enable()


def leave() -> None:
    """End the program as a success, without the second in which Python takes apart what torch made at its import.

    What is to happen at its end happens, as in children of `multiprocessing`. Does nothing if somebody watches the
    program: a debugger or a profiler, which is still to write what it saw.
    """
    if sys.gettrace() or sys.getprofile():
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
