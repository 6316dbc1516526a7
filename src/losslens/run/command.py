"""Run or resume a sweep: prepare its folder, train here or elsewhere, show the results."""

import shlex
import sys
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from losslens.console import SweepInterrupted, be_quiet, counted, progress_bar, quiet_writers, say
from losslens.files import cannot_write
from losslens.report.once import report_now, report_once
from losslens.report.table import print_results
from losslens.run.distribute import Executor
from losslens.run.launchers.local import LocalProcesses
from losslens.run.plan import plan_variants
from losslens.run.show_plan import show_plan
from losslens.run.signals import stopped_by_signals
from losslens.run.train import SweepTraining
from losslens.sweep.folder import locked
from losslens.sweep.ledger import ENDED, state_of
from losslens.sweep.progress import HEARTBEAT
from losslens.sweep.queue import clear_queue
from losslens.sweep.results import (
    SWEEP_FILE,
    SweepResult,
    VariantResult,
    VariantsFailed,
    distinct_losses,
    load_sweep,
)
from losslens.sweep.variants import add_variants, lost_variants, make_folders, stored_variants
from losslens.training.state import remove_states
from losslens.training.stop import Stop
from losslens.training.supported import check_trainer
from losslens.training.trainer import check_accelerator
from losslens.training.trust import FRAMEWORK, foreign
from losslens.variant import Job, Variant


@dataclass(frozen=True)
class _Command:
    """A command on a sweep.

    Args:
        settings: `report`, `retry_failed`, `fail_fast` and `optimize`.
        executor: None: this process trains.
    """

    folder: Path
    settings: Mapping[str, Any]
    executor: Executor | None

    @property
    def trains_here(self) -> bool:
        """Whether this machine trains."""
        return self.executor is None or isinstance(self.executor, LocalProcesses)

    @property
    def is_search(self) -> bool:
        """Whether it is one batch of a search, which shows the results at its end."""
        return self.settings["optimize"] is not None

    @property
    def wants_report(self) -> bool:
        """Whether a report is to be made."""
        return self.settings["report"] and not self.is_search

    @property
    def settings_of_workers(self) -> dict[str, bool]:
        """What the executor's workers are told."""
        return {"report": self.wants_report, "fail_fast": self.settings["fail_fast"]}

    @property
    def resumption(self) -> str:
        """The command that resumes the sweep, with the same launcher."""
        launcher = [each for each in sys.argv[1:] if each.startswith(("hydra/launcher=", "hydra.launcher."))]
        return shlex.join(["python", "train.py", f"resume={self.folder}", *launcher])


def run_sweep(
    jobs: Sequence[Job], folder: Path, *, single: bool = False, executor: Executor | None = None
) -> list[VariantResult]:
    """Train all variants of a command that are not done in the folder yet, and show the results.

    Args:
        jobs: configuration, overrides and Hydra's choices of each variant.
        single: whether `folder` is that of the only variant.
        executor: None: this process trains.

    Returns:
        The results of each variant, in their order; nothing if it only plans.

    Raises:
        ValueError: if the folder does not fit to the command.
        VariantsFailed: at the end, if variants failed.
        SweepInterrupted: if it was asked to stop.
    """
    command = _Command(folder, jobs[0][0], executor)
    if command.settings["plan"]:
        plan_only(jobs, folder, single, executor)
        return []
    planned = plan_variants(jobs, folder, single=single)
    for variant in planned:
        check_trainer(variant.config["trainer"])
        if command.trains_here:
            check_accelerator(variant.config["trainer"])
    with locked(folder):
        clear_queue(folder)  # arrays that no process has begun
        stored = stored_variants(folder)
        variants, names = add_variants(stored, planned)
        if single and len(variants) > 1:
            raise cannot_write(folder, "it holds another run")
        found = _run(command, variants, {variant.name for variant in stored})
    results = [found[name] for name in names]
    _raise_failures(found, results, single=single)
    return results


def resume_sweep(folder: Path, settings: Mapping[str, Any], executor: Executor | None) -> None:
    """Train what is not done of a sweep or a single run, and show the results.

    Args:
        settings: `report`, `retry_failed`, `fail_fast` and `optimize` of this command.
        executor: None: this process trains.

    Raises:
        ValueError: if that is not the folder of a sweep.
        VariantsFailed: at the end, if variants failed.
        SweepInterrupted: if it was asked to stop.
    """
    command = _Command(folder, settings, executor)
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} has no {SWEEP_FILE}: give the folder of a sweep or of a run with resume=FOLDER")
    with locked(folder):
        clear_queue(folder)  # arrays that no process has begun
        stored = stored_variants(folder)
        if not stored:
            raise ValueError(f"{folder} has none of its variants: bring back {', '.join(lost_variants(folder))}")
        if names := foreign([variant.config for variant in stored], FRAMEWORK):
            say(Console(), f"this runs what the configurations name: {', '.join(names)}")
        if command.trains_here:
            for variant in stored:
                if state_of(variant.folder) not in ENDED:
                    check_accelerator(variant.config["trainer"])
        found = _run(command, stored, {variant.name for variant in stored})
    _raise_failures(found, list(found.variants.values()), single=stored[0].folder == folder)


def plan_only(jobs: Sequence[Job], folder: Path, single: bool, executor: Executor | None) -> None:
    """Print what `run_sweep` would do, without writing anything."""
    be_quiet()
    stored = []
    try:
        stored = stored_variants(folder)
        variants, _ = add_variants(stored, plan_variants(jobs, folder, single=single))
        known = {variant.name for variant in stored}
        states = {each.name: state_of(each.folder) if each.name in known else "pending" for each in variants}
        if jobs[0][0].retry_failed:
            states = {name: "pending" if state == "failed" else state for name, state in states.items()}
        show_plan(variants, folder, states, executor, Console())
    finally:
        if not stored:
            (folder / "multirun.yaml").unlink(missing_ok=True)  # written by Hydra
            with suppress(OSError):  # not empty
                folder.rmdir()
                folder.parent.rmdir()


def _run(command: _Command, variants: Sequence[Variant], known: Set[str]) -> SweepResult:
    """Prepare, train and show; `known` are the names of variants that have their folders already."""
    be_quiet()
    console, stop = Console(), Stop()
    lost = [name for name in lost_variants(command.folder) if name not in {variant.name for variant in variants}]
    states = _prepare(command, variants, known)
    leave = ("done",) if command.settings["retry_failed"] else ENDED
    wanted = [name for name, state in states.items() if state not in leave]
    with stopped_by_signals(stop), quiet_writers():
        with progress_bar(console, counted(len(variants), "variant")) as show_share:
            training = SweepTraining(
                variants,
                command.folder,
                console,
                show_share,
                stop,
                losses=distinct_losses(variants),
                heartbeat=command.folder / HEARTBEAT,
                fail_fast=command.settings["fail_fast"],
            )
            training.known = known
            training.say(f"{counted(len(variants), 'variant')} in {command.folder}{_already(states)}")
            for name in lost:
                training.say(
                    f"{name} is left out, since its folder is not there: bring it back, or train it anew with the "
                    f"command that began it and {shlex.quote(f'hydra.sweep.dir={command.folder}')}"
                )
            if command.trains_here and torch.backends.mps.is_available():
                training.say("training on the CPU: Apple's GPU is not used")
            if command.executor is None:
                training.train(wanted)
            elif training.hand_over(wanted, command.executor, command.settings_of_workers):
                status = f"python -m losslens.status {command.folder}"
                raise SweepInterrupted(stop.reason, status, stop.exit_code)
        shown = _report(command, training)
    return _show(command, training, wanted, shown)


def _prepare(command: _Command, variants: Sequence[Variant], known: Set[str]) -> dict[str, str]:
    """Make the folders of new variants, and tidy those of others; returns the state of each."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    make_folders(variants, command.folder, known, device)
    states = {variant.name: state_of(variant.folder) for variant in variants}
    for variant in variants:
        if states[variant.name] == "done":
            remove_states(variant.folder)  # left by a killed process
            if not (variant.folder / "metrics.json").is_file():  # lost since
                states[variant.name] = "pending"
    return states


def _report(command: _Command, training: SweepTraining) -> list[Path]:
    """Make the report if it is wanted; returns the files to show.

    Raises:
        SweepInterrupted: if it was asked to stop meanwhile.
    """
    stop = training.stop
    if training.interrupted and not command.is_search:
        training.say(f"stopped: {stop.reason}; go on with: {command.resumption}")
    if not command.wants_report or training.disk_failed:
        return []
    try:
        if training.interrupted:
            return report_now(command.folder, training.say, study=False)
        return report_once(command.folder, training.say, training.shared)
    except KeyboardInterrupt:
        raise SweepInterrupted(stop.reason, command.resumption, stop.exit_code) from None


def _show(command: _Command, training: SweepTraining, wanted: Sequence[str], shown: Sequence[Path]) -> SweepResult:
    """Print the results, and commands that show more.

    Raises:
        SweepInterrupted: if variants that were wanted have not ended.
    """
    found = load_sweep(command.folder)
    if found.done and not command.is_search:
        commands = [f"tensorboard --logdir {command.folder}"]
        commands += [f"python -m webbrowser {path.resolve().as_uri()}" for path in shown]
        print_results(training.console, found, commands)
    if training.interrupted:
        raise SweepInterrupted(training.stop.reason, command.resumption, training.stop.exit_code)
    if training.without_data:
        reasons = {reason: name for name, reason in training.without_data.items()}
        told = "; ".join(f"{name} waits for its data: {reason}" for reason, name in reasons.items())
        raise SweepInterrupted(told, command.resumption, 1)
    left = [name for name in wanted if found.variants[name].status["status"] not in ENDED]
    if left:  # their processes were killed
        raise SweepInterrupted(f"{len(left)} variants are not done", command.resumption, 1)
    return found


def _already(states: Mapping[str, str]) -> str:
    """Return how many variants were done, interrupted or failed before this command."""
    counts = {state: list(states.values()).count(state) for state in ("done", "interrupted", "running", "failed")}
    told = [f"{count} {'interrupted' if state == 'running' else state}" for state, count in counts.items() if count]
    return f", {', '.join(told)} from earlier on" if told else ""


def _raise_failures(found: SweepResult, results: Sequence[VariantResult], *, single: bool) -> None:
    failed = {v.name: v.status["reason"] for v in found.variants.values() if v.status["status"] == "failed"}
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        message = reasons if single else f"{len(failed)} of {len(found.variants)} variants failed: {reasons}"
        raise VariantsFailed(message, results)
