"""The command `lens.py`: measure configured losses on a picture, and write the results."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from losslens.build import build_loss, plain_settings
from losslens.console import say
from losslens.lens.look import Look, all_pairs
from losslens.lens.picture import read_picture
from losslens.lens.write import write_results, write_tensorboard


def run_lens(
    config: DictConfig, losses: Mapping[str, Mapping[str, Any]], against: str | None, folder: Path, command: str
) -> None:
    """Measure losses, and write the results into a folder; an interruption keeps what is done.

    Args:
        config: as in `conf/lens.yaml`.
        losses: configurations by name, including that of `against`.
        against: the loss that the others compete with; None: all pairs compete.
        folder: must exist.
        command: shell command that repeats the run.

    Raises:
        ValueError: if the picture cannot be read, or at the end if losses failed.
    """
    console = Console()
    image, name = read_picture(config.image, config.size)
    modules = {each: build_loss(plain_settings(settings)) for each, settings in losses.items()}
    names = list(modules)
    pairs = all_pairs(names)
    if against is not None:
        pairs = [pair for pair in pairs if against in pair]
    look = Look(
        image=image,
        losses=modules,
        rms=config.rms,
        steps=config.steps,
        tolerance=config.tolerance,
        seed=config.seed,
        pairs=pairs,
        principal=config.principal,
    )
    try:
        _ask(look, console)
    finally:
        page = write_results(look, folder, picture_name=name, command=command)
        if config.tensorboard:
            write_tensorboard(look, folder)
        for line in (f"{folder}", f"python -m webbrowser {page.resolve().as_uri()}"):
            say(console, line)
    failed = {each: answers.notes[-1] for each, answers in look.answers.items() if answers.failed}
    if failed:
        raise ValueError("; ".join(f"{each}: {reason}" for each, reason in failed.items()))


def _ask(look: Look, console: Console) -> None:
    """Do the pieces of work in order, with a progress bar on a terminal."""
    pieces = list(look.pieces())
    with Progress(console=console, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=len(pieces))
        for what, ask in pieces:
            progress.update(task, description=what)
            ask()
            progress.advance(task)
