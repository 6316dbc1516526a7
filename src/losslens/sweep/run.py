"""Train the variants of a sweep, or go on with it, and show what came of them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from losslens.console import counted
from losslens.files import ASIDE, write_json, write_text
from losslens.report.results import SWEEP_FILE, SweepResult, VariantResult, load_sweep, write_sweep_file
from losslens.report.table import print_results
from losslens.sweep.arrays import withdraw_arrays
from losslens.sweep.distribute import Workers
from losslens.sweep.errors import SweepInterrupted, VariantsFailed
from losslens.sweep.folders import ENDED, cannot_write, environment, write_status
from losslens.sweep.heartbeat import HEARTBEAT
from losslens.sweep.launchers.local import LocalProcesses
from losslens.sweep.plan import distinct_losses, plan_variants
from losslens.sweep.quiet import be_quiet, quiet_writers
from losslens.sweep.report_once import report, report_once
from losslens.sweep.show_plan import show_plan
from losslens.sweep.signals import stopped_by_signals
from losslens.sweep.start import Job
from losslens.sweep.stored import add_variants, locked, status_of, stored_variants
from losslens.sweep.work import Sweep
from losslens.training.state import read_every, remove_states
from losslens.training.stop import Stop
from losslens.training.trainer import check_accelerator
from losslens.variant import Variant


def run_sweep(
    jobs: Sequence[Job], folder: Path, *, single: bool = False, workers: Workers | None = None
) -> list[VariantResult]:
    """Train all variants and show what came of them; those that the folder has already, as far as they are not done.

    Args:
        jobs: configuration, overrides and Hydra's choices of each variant.
        folder: of the sweep; it exists.
        single: whether `folder` is that of the only variant.
        workers: who trains; None: this process.

    Returns:
        What each variant left, in their order; nothing if it only plans.

    Raises:
        ValueError: if the folder does not fit to the command.
        VariantsFailed: at the end, if variants failed.
        SweepInterrupted: if it was asked to stop.
    """
    if jobs[0][0].plan:
        plan_only(jobs, folder, single, workers)
        return []
    read_every(jobs[0][0].checkpoint.every)
    if _trains_here(workers):
        for config, *_ in jobs:
            check_accelerator(config.trainer)
    with locked(folder):
        withdraw_arrays(folder)  # of processes that were to train them later
        stored = stored_variants(folder)
        variants, names = add_variants(stored, plan_variants(jobs, folder, single=single))
        if single and len(variants) > 1:
            raise cannot_write(folder, "it holds another run")
        found = _run(variants, folder, jobs[0][0], {variant.name for variant in stored}, workers)
    results = [found[name] for name in names]
    _raise_failures(found, results, single=single)
    return results


def plan_only(jobs: Sequence[Job], folder: Path, single: bool, workers: Workers | None) -> None:
    """Print what `run_sweep` would do, and leave no trace."""
    be_quiet()
    stored = []
    try:
        stored = stored_variants(folder)
        variants, _ = add_variants(stored, plan_variants(jobs, folder, single=single))
        known = {variant.name for variant in stored}
        states = {each.name: status_of(each) if each.name in known else "pending" for each in variants}
        if jobs[0][0].retry_failed:
            states = {name: "pending" if state == "failed" else state for name, state in states.items()}
        show_plan(variants, folder, states, workers, Console())
    finally:
        if not stored:
            (folder / "multirun.yaml").unlink(missing_ok=True)  # Hydra's
            with suppress(OSError):  # unless they hold something else
                folder.rmdir()
                folder.parent.rmdir()


def resume_sweep(folder: Path, settings: Mapping[str, Any], workers: Workers | None) -> None:
    """Go on with a sweep, or a single run, as far as it is not done.

    Args:
        folder: of the sweep.
        settings: `report`, `retry_failed`, `fail_fast` and `optimize` of this command.
        workers: who trains; None: this process.

    Raises:
        ValueError: if that is not the folder of a sweep.
        VariantsFailed: at the end, if variants failed.
        SweepInterrupted: if it was asked to stop.
    """
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} has no {SWEEP_FILE}: give the folder of a sweep or of a run with resume=FOLDER")
    with locked(folder):
        withdraw_arrays(folder)  # of processes that were to train them later
        stored = stored_variants(folder)
        if _trains_here(workers):
            for variant in stored:
                if status_of(variant) not in ENDED:
                    check_accelerator(variant.config["trainer"])
        found = _run(stored, folder, settings, {variant.name for variant in stored}, workers)
    _raise_failures(found, list(found.variants.values()), single=stored[0].folder == folder)


def _run(
    variants: Sequence[Variant], folder: Path, settings: Mapping[str, Any], known: Set[str], workers: Workers | None
) -> SweepResult:
    """Train what is to be trained, and show it, but for a search, which shows all of it at its end.

    Args:
        variants: all of the sweep.
        folder: of the sweep.
        settings: of the command.
        known: names of the variants that have their folders already.
        workers: who trains; None: this process.
    """
    be_quiet()
    console = Console()
    _prepare(variants, folder, known)
    states = {variant.name: status_of(variant) for variant in variants}
    for variant in variants:
        if states[variant.name] == "done":
            remove_states(variant.folder)  # that a process which was killed had no time to remove
    leave = ("done",) if settings["retry_failed"] else ENDED
    wanted = [name for name, state in states.items() if state not in leave]
    stop = Stop()
    count = counted(len(variants), "variant")
    launcher = [each for each in sys.argv[1:] if each.startswith(("hydra/launcher=", "hydra.launcher."))]
    resume = " ".join([f"python train.py resume={folder}", *launcher])
    searching = settings["optimize"] is not None
    report_wanted = settings["report"] and not searching
    shown: list[Path] = []
    with stopped_by_signals(stop), quiet_writers():
        with _progress(console, count) as show_share:
            sweep = Sweep(
                variants,
                folder,
                console,
                show_share,
                stop,
                losses=distinct_losses(variants),
                heartbeat=folder / HEARTBEAT,
                fail_fast=settings["fail_fast"],
            )
            sweep.say(f"{count} in {folder}{_already(states)}")
            if _trains_here(workers) and torch.backends.mps.is_available():
                sweep.say("training on the CPU: Apple's GPU is not used")
            if workers is None:
                sweep.train(wanted)
            elif sweep.hand_over(wanted, workers, {"report": report_wanted, "fail_fast": settings["fail_fast"]}):
                raise SweepInterrupted(stop.reason, f"python -m losslens.status {folder}", stop.exit_code)
        if sweep.interrupted and not searching:
            sweep.say(f"stopped: {stop.reason}; go on with: {resume}")
        if report_wanted and not sweep.disk_failed:
            try:
                shown = (
                    report(folder, sweep.say, study=False)
                    if sweep.interrupted
                    else report_once(folder, sweep.say, sweep.shared)
                )
            except KeyboardInterrupt:
                raise SweepInterrupted(stop.reason, resume, stop.exit_code) from None
    found = load_sweep(folder)
    if found.done and not searching:
        commands = [f"tensorboard --logdir {folder}"]
        commands += [f"python -m webbrowser {path.resolve().as_uri()}" for path in shown]
        print_results(console, found, commands)
    if sweep.interrupted:
        raise SweepInterrupted(stop.reason, resume, stop.exit_code)
    left = [name for name in wanted if found.variants[name].status["status"] not in ENDED]
    if left:  # by workers that were ended
        raise SweepInterrupted(f"{len(left)} variants are not done", resume, 1)
    return found


def _trains_here(workers: Workers | None) -> bool:
    return workers is None or isinstance(workers, LocalProcesses)


def _already(states: Mapping[str, str]) -> str:
    """Say how many variants are done, interrupted or failed from earlier on."""
    counts = {state: list(states.values()).count(state) for state in ("done", "interrupted", "running", "failed")}
    told = [f"{count} {'interrupted' if state == 'running' else state}" for state, count in counts.items() if count]
    return f", {', '.join(told)} from earlier on" if told else ""


def _raise_failures(found: SweepResult, results: Sequence[VariantResult], *, single: bool) -> None:
    failed = {v.name: v.status["reason"] for v in found.variants.values() if v.status["status"] == "failed"}
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        message = reasons if single else f"{len(failed)} of {len(found.variants)} variants failed: {reasons}"
        raise VariantsFailed(message, results)


def _prepare(variants: Sequence[Variant], folder: Path, known: Set[str]) -> None:
    """Make the folder of every new variant, with configuration and environment, and then list all in `sweep.json`."""
    for left in folder.rglob(f".*{ASIDE}*"):  # by a process that was killed
        left.unlink()
    if any(variant.name not in known for variant in variants):
        surroundings = environment(torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    for variant in variants:
        if variant.name in known:
            continue
        try:
            variant.folder.mkdir(exist_ok=True)
            write_text(variant.folder / "config.yaml", OmegaConf.to_yaml(variant.config))
            write_json(variant.folder / "environment.json", surroundings)
            write_status(variant.folder, "pending")
        except OSError as error:
            raise cannot_write(variant.folder, error.strerror or str(error)) from error
    try:
        write_sweep_file(folder, variants, distinct_losses(variants))
    except OSError as error:
        raise cannot_write(folder, error.strerror or str(error)) from error


@contextmanager
def _progress(console: Console, description: str) -> Iterator[Callable[[float], None]]:
    """Show one bar for the whole sweep; nothing where the output is not a terminal.

    Yields:
        A function that takes the share that is done.
    """
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "elapsed", TimeRemainingColumn(), "left")
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task(description, total=1.0)
    with progress:
        yield lambda done: progress.update(task, completed=done)
