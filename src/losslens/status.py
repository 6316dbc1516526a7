"""Say how a sweep is doing, whether it runs or not: python -m losslens.status outputs/sweeps/DATE-TIME."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from losslens.sweep.errors import one_line_errors
from losslens.sweep.start import fast_imports

MINUTE, HOUR = 60, 3600


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
        from losslens.sweep.heartbeat import HEARTBEAT
        from losslens.sweep.stored import is_locked
    sweep = load_sweep(folder)
    alive = is_locked(folder)
    file = folder / HEARTBEAT
    beat: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    for heading in ("state", "step", "loss", "reason"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("step", "loss") else "left")
    for variant in sweep.variants.values():
        status = variant.status
        now = beat.get("variants", {}).get(variant.name, {}) if status["status"] in ("running", "interrupted") else {}
        step = now.get("step", variant.facts["steps"])
        loss = now.get("loss", variant.metrics.get("loss"))
        state = status["status"]
        if state == "running" and not alive:
            state = "interrupted"  # its process was ended before it could say so
        steps = f"{step} of {now['steps']:g}" if now.get("steps") else str(step)
        cells = (state, steps, "" if loss is None else f"{loss:.4f}", status["reason"] or "")
        table.add_row(*(cell.replace("[", r"\[") for cell in (variant.name, *cells)))
    console.print(table)
    done = len(sweep.done) == len(sweep.variants)
    line = "all variants are done" if done and not alive else _at_work(folder, alive, beat)
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _at_work(folder: Path, alive: bool, beat: dict[str, Any]) -> str:
    """Say whether a process is at work, since when it was not heard of, and how long it will take."""
    if not alive:
        return f"no process is at work on it; go on with: python train.py resume={folder}"
    if not beat:
        return "a process is at work, and has not taken its first steps"
    age = _duration(time.time() - beat["time"])
    left = "" if beat["seconds_left"] is None else f", {_duration(beat['seconds_left'])} left"
    return f"process {beat['process']} on {beat['host']} is at work: {beat['share']:.0%} done{left}; heard of {age} ago"


def _duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < HOUR else f"{seconds / HOUR:.1f} h"


if __name__ == "__main__":
    main()
