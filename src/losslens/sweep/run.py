"""Train the variants of a sweep, keep what each came to, and show it."""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from losslens.data.source import Images
from losslens.files import write, write_json, write_text
from losslens.report.sheet import sheet
from losslens.report.table import print_results
from losslens.sweep.errors import TRACEBACK_WANTED, one_line
from losslens.sweep.folders import cannot_write, environment, write_status
from losslens.sweep.names import folder_name, job_values, unique, varied_values
from losslens.sweep.start import Job
from losslens.training.build import build
from losslens.training.fit import Outcome, fit
from losslens.training.logger import HParam

PLAIN_WIDTH = 120  # columns, where the output is not a terminal


@dataclass(frozen=True)
class Variant:
    """One fully resolved configuration of a sweep.

    Args:
        name: readable and unique within the sweep.
        config: resolved, plain.
        folder: where it is written.
        values: what is shown in the HParams tab: the main choices and whatever differs within the sweep.
    """

    name: str
    config: dict[str, Any]
    folder: Path
    values: dict[str, HParam]


def run_sweep(jobs: Sequence[Job], folder: Path, *, single: bool = False) -> list[dict[str, float]]:
    """Train all variants; one that fails does not stop the others.

    Args:
        jobs: configuration, overrides and Hydra's choices of each variant.
        folder: of the sweep; it exists.
        single: whether `folder` is that of the only variant.

    Returns:
        The metrics of each variant.

    Raises:
        ValueError: at the end, if variants failed.
    """
    for package in ("fabric", "pytorch"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)  # else it lists devices and advertises
    warnings.filterwarnings("ignore", ".*smaller than the logging interval", module="lightning")  # few steps are fine
    warnings.filterwarnings("ignore", ".*could not find the monitored key", module="lightning")  # steps ended early
    warnings.filterwarnings("ignore", ".*LeafSpec", module="lightning")  # Lightning's own use of torch
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    variants = plan(jobs, folder, single=single)
    _prepare(variants)
    say(f"{len(variants)} variant{'s' if len(variants) > 1 else ''} in {folder}")
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    decoded: dict[str, Images] = {}
    with _progress(console, len(variants)) as report:
        for index, variant in enumerate(variants):
            try:
                outcomes[variant.name] = _train(variant, decoded, report(index, variant.name))
            except Exception as error:
                failures[variant.name] = one_line(error)
                say(f"{variant.name}: failed")
                if TRACEBACK_WANTED:
                    traceback.print_exception(error)
            else:
                say(_summary(variant.name, outcomes[variant.name]))
    if outcomes:
        commands = [f"tensorboard --logdir {folder}"]
        pictures = [folder / "grid.png"] if single else _write_sheets(variants, outcomes, folder)
        commands += [f"python -m webbrowser {picture.resolve().as_uri()}" for picture in pictures]
        print_results(console, outcomes, commands)
    if failures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise ValueError(reasons if single else f"{len(failures)} of {len(variants)} variants failed: {reasons}")
    return [outcomes[variant.name].metrics for variant in variants]


def plan(jobs: Sequence[Job], folder: Path, *, single: bool) -> list[Variant]:
    """Name the variants, place them in folders, and resolve their configurations."""
    values = [job_values(overrides, choices) for _, overrides, choices in jobs]
    varied = varied_values(values)
    names = unique([folder_name(value) for value in varied])
    variants = []
    for (config, _, choices), name, own, differing in zip(jobs, names, values, varied, strict=True):
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(resolved, dict)
        main: dict[str, HParam] = {"loss": own["loss"], "model": choices["model"], "data": choices["data"]}
        hparams = {**main, "seed": config.seed, **{k: v for k, v in differing.items() if k not in ("loss", "seed")}}
        variants.append(
            Variant(name, {str(k): v for k, v in resolved.items()}, folder if single else folder / name, hparams)
        )
    return variants


def _prepare(variants: Sequence[Variant]) -> None:
    """Make every folder, with its configuration and environment, before the first variant starts."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    surroundings = environment(device)
    for variant in variants:
        try:
            variant.folder.mkdir(exist_ok=True)
            write_text(variant.folder / "config.yaml", OmegaConf.to_yaml(variant.config))
            write_json(variant.folder / "environment.json", surroundings)
            write_status(variant.folder, "pending")
        except OSError as error:
            raise cannot_write(variant.folder, error.strerror or str(error)) from error


def _train(variant: Variant, decoded: dict[str, Images], report: Callable[[int, float], None]) -> Outcome:
    """Train one variant, with its data decoded once per sweep and its status in its folder."""
    write_status(variant.folder, "running")
    try:
        source = variant.config["data"]
        key = repr(source)
        if key not in decoded:
            decoded[key] = build(source).decode()
        outcome = fit(variant.config, decoded[key], variant.folder, variant.values, report)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the one into the other
        write_status(variant.folder, "failed", "interrupted")
        raise KeyboardInterrupt from error
    except Exception as error:
        write_status(variant.folder, "failed", one_line(error))
        raise
    write_status(variant.folder, "done")
    return outcome


def _write_sheets(variants: Sequence[Variant], outcomes: dict[str, Outcome], folder: Path) -> list[Path]:
    """Write a sheet for each data set of the sweep: only variants of the same images share columns."""
    groups: dict[str, list[str]] = {}
    for variant in variants:
        if variant.name in outcomes:
            groups.setdefault(repr(variant.config["data"]), []).append(variant.name)
    paths = [folder / f"sheet{f'-{number}' if number > 1 else ''}.png" for number in range(1, len(groups) + 1)]
    for path, names in zip(paths, groups.values(), strict=True):
        page = sheet(outcomes[names[0]].originals, {name: outcomes[name].reconstructions for name in names})
        write(path, lambda aside, page=page: page.save(aside, format="PNG"))  # type: ignore[misc]
    return paths


def _summary(name: str, outcome: Outcome) -> str:
    facts = outcome.facts
    code = "x".join(str(side) for side in facts["code_shape"])
    return (
        f"{name}: loss {outcome.metrics['loss']:.4f} after {facts['steps']} steps in {facts['seconds']:.0f} s, "
        f"{facts['num_parameters']:,} parameters, code {code}, compression {facts['compression_ratio']:.3g}:1"
    )


@contextmanager
def _progress(console: Console, num_variants: int) -> Iterator[Callable[[int, str], Callable[[int, float], None]]]:
    """Show one bar for the whole sweep; nothing where the output is not a terminal.

    Yields:
        A function that takes a variant's place and name and returns what its training reports to.
    """
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "elapsed", TimeRemainingColumn(), "left")
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task("decoding", total=num_variants)

    def reporter(index: int, name: str) -> Callable[[int, float], None]:
        description = f"{name} ({index + 1} of {num_variants})"
        return lambda done, total: progress.update(task, description=description, completed=index + done / total)

    with progress:
        yield reporter
