"""Train the variants of a sweep, keep what each came to, and show it."""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from losslens.build import build
from losslens.data.source import Images
from losslens.files import write_json, write_text
from losslens.report.results import SWEEP_FILE, load_sweep, write_sweep_file
from losslens.report.table import print_results
from losslens.sweep.errors import TRACEBACK_WANTED, one_line
from losslens.sweep.folders import cannot_write, environment, write_status
from losslens.sweep.plan import distinct_losses, group_variants, plan_variants, share_cores, split_by_memory
from losslens.sweep.start import Job
from losslens.training.fit import Outcome, Variant, fit

PLAIN_WIDTH = 120  # columns, where the output is not a terminal


class Sweep:
    """The variants of one command on their way: what came of them, and what is told of it.

    Args:
        variants: with their folders.
        console: for the user.
        report: takes the share of all training that is done.
    """

    def __init__(self, variants: Sequence[Variant], console: Console, report: Callable[[float], None]) -> None:
        self.variants = {variant.name: variant for variant in variants}
        self.losses = distinct_losses(variants)
        self.console = console
        self.report = report
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, str] = {}

    def train(self) -> None:
        """Train all variants; one that fails does not stop the others."""
        for group in group_variants(list(self.variants.values())):
            try:
                images: Images = build(group[0].config["data"]).decode()
                cores = share_cores(len(group), group[0].config["array"]["threads"])
                arrays = split_by_memory(group, images, cores[0])
            except Exception as error:
                self._fail_all(group, error)
                continue
            if len(arrays) > 1:
                self.say(f"memory or array.max_variants allow {len(arrays)} arrays, one after another")
            for array in arrays:
                self._train_array(array, images, cores)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _train_array(self, array: Sequence[Variant], images: Images, cores: tuple[int, int]) -> None:
        done_before = len(self.outcomes) + len(self.failures)

        def report(share: float) -> None:
            self.report((done_before + share * len(array)) / len(self.variants))

        for variant in array:
            write_status(variant.folder, "running")
        try:
            outcomes = fit(
                array,
                images,
                num_workers=min(cores[0], len(array)),
                num_threads=cores[1],
                report=report,
                on_failure=self._fail,
                say=self.say,
                losses=self.losses,
            )
        except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the one into the other
            for name, variant in self.variants.items():
                if name not in self.failures and name not in self.outcomes:
                    write_status(variant.folder, "failed", "interrupted")
            raise KeyboardInterrupt from error
        except torch.OutOfMemoryError as error:
            if len(array) == 1:
                self._fail_all(array, error)
                return
            self.say("out of memory: the array is split, and its halves train one after another")
            for half in (array[: len(array) // 2], array[len(array) // 2 :]):
                self._train_array([each for each in half if each.name not in self.failures], images, cores)
        except Exception as error:
            self._fail_all(array, error)
        else:
            for name, outcome in outcomes.items():
                write_status(self.variants[name].folder, "done")
                self.outcomes[name] = outcome
                self.say(_summary(name, outcome))

    def _fail(self, name: str, error: Exception) -> None:
        self.failures[name] = one_line(error)
        write_status(self.variants[name].folder, "failed", self.failures[name])
        self.say(f"{name}: failed")
        if TRACEBACK_WANTED:
            traceback.print_exception(error)

    def _fail_all(self, variants: Sequence[Variant], error: Exception) -> None:
        for variant in variants:
            if variant.name not in self.failures:
                self._fail(variant.name, error)


def run_sweep(jobs: Sequence[Job], folder: Path, *, single: bool = False) -> list[dict[str, float]]:
    """Train all variants and show what came of them.

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
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # whoever asks for a profile sees it
    warnings.filterwarnings("ignore", ".*LeafSpec", module="lightning")  # Lightning's own use of torch
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    variants = plan_variants(jobs, folder, single=single)
    _prepare(variants, folder)
    with _progress(console, f"{len(variants)} variant{'s' if len(variants) > 1 else ''}") as report:
        sweep = Sweep(variants, console, report)
        sweep.say(f"{len(variants)} variant{'s' if len(variants) > 1 else ''} in {folder}")
        sweep.train()
    shown = _report(folder, sweep.say) if jobs[0][0].report else []
    outcomes = {variant.name: sweep.outcomes[variant.name] for variant in variants if variant.name in sweep.outcomes}
    if outcomes:
        commands = [f"tensorboard --logdir {folder}"]
        commands += [f"python -m webbrowser {path.resolve().as_uri()}" for path in shown]
        print_results(console, outcomes, commands)
    if sweep.failures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sweep.failures.items())
        raise ValueError(reasons if single else f"{len(sweep.failures)} of {len(variants)} variants failed: {reasons}")
    return [outcome.metrics for outcome in outcomes.values()]


def _prepare(variants: Sequence[Variant], folder: Path) -> None:
    """Make every folder, with its configuration and environment, before the first variant starts.

    Raises:
        ValueError: if the folder holds a sweep already, whose results would be mixed with these.
    """
    if (folder / SWEEP_FILE).exists():
        raise cannot_write(folder, "it holds the results of an earlier command")
    write_sweep_file(folder, variants, distinct_losses(variants))
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


def _report(folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Make all that the sweep shows; a mistake there is told, and harms nothing else."""
    try:
        from losslens.report.make import make_report  # imports matplotlib, which the first step need not wait for

        shown, mistakes = make_report(load_sweep(folder))
    except Exception as error:
        shown, mistakes = [], [f"{type(error).__name__}: {error}"]
        if TRACEBACK_WANTED:
            traceback.print_exc()
    for mistake in mistakes:
        say(mistake)
    if mistakes:
        say(f"the results stay; once that is mended, make the rest with: python -m losslens.report {folder}")
    return shown


def _summary(name: str, outcome: Outcome) -> str:
    facts = outcome.facts
    code = "x".join(str(side) for side in facts["code_shape"])
    return (
        f"{name}: loss {outcome.metrics['loss']:.4f} after {facts['steps']} steps in {facts['seconds']:.0f} s, "
        f"{facts['num_parameters']:,} parameters, code {code}, compression {facts['compression_ratio']:.3g}:1"
    )


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
