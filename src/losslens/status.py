"""Say how a sweep is doing, whether it runs or not: python -m losslens.status outputs/sweeps/DATE-TIME."""

import argparse
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from losslens.duration import duration
from losslens.sweep.errors import one_line_errors
from losslens.sweep.start import fast_imports

RESUME = "python train.py resume="


def main() -> None:
    """Read a folder from the command line, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m losslens.status", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a sweep or a single run")
    arguments = parser.parse_args()
    with one_line_errors():
        show(arguments.folder, Console())


def show(folder: Path, console: Console) -> None:
    """Print state, progress, last loss and time left of every variant, and whether a process is at work.

    Raises:
        ValueError: if that is not the folder of a sweep.
    """
    with fast_imports():
        from losslens.report.results import load_sweep
        from losslens.sweep.arrays import stored_arrays
        from losslens.sweep.follow import read_progress, share_done
        from losslens.sweep.stored import is_locked
    sweep = load_sweep(folder)
    alive = is_locked(folder)
    progress = read_progress(folder)
    states = {variant.name: variant.status["status"] for variant in sweep.variants.values()}
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    for heading in ("state", "step", "loss", "reason"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("step", "loss") else "left")
    for variant in sweep.variants.values():
        status = variant.status
        now = progress.variants.get(variant.name, {}) if status["status"] in ("running", "interrupted") else {}
        step = now.get("step", variant.facts["steps"])
        loss = now.get("loss", variant.metrics.get("loss"))
        state = status["status"]
        if state == "running" and not alive:
            state = "interrupted"  # its process was ended before it could say so
        steps = f"{step} of {now['steps']:g}" if now.get("steps") else str(step)
        cells = (state, steps, "" if loss is None else f"{loss:.4f}", status["reason"] or "")
        table.add_row(*(cell.replace("[", r"\[") for cell in (variant.name, *cells)))
    console.print(table)
    if not alive and stored_arrays(folder):
        line = f"{len(stored_arrays(folder))} arrays wait, and no process is at work on them"
    elif not alive:
        done = len(sweep.done) == len(sweep.variants)
        line = "all variants are done" if done else f"no process is at work on it; go on with: {RESUME}{folder}"
    elif not progress.beats:
        line = "a process is at work, and has not taken its first steps"
    else:
        seconds = progress.seconds_left([name for name, state in states.items() if state not in ("done", "failed")])
        left = "" if seconds is None else f", {duration(seconds)} left"
        ages = [duration(time.time() - beat["time"]) for beat in progress.beats]
        places = [
            f"process {beat['process']} on {beat['host']}, heard of {age} ago"
            for beat, age in zip(progress.beats, ages, strict=True)
        ]
        line = f"at work: {share_done(states, progress):.0%} done{left}; {'; '.join(places)}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
