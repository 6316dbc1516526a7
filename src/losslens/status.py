"""Say how a sweep is doing, whether it runs or not."""

import argparse
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from losslens.console import counted, duration, one_line_errors, print_table, say
from losslens.sweep.ledger import ENDED
from losslens.sweep.progress import Progress, read_progress, share_done
from losslens.sweep.queue import is_locked, queued_arrays
from losslens.sweep.results import SweepResult, load_sweep


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
    sweep = load_sweep(folder)
    alive = is_locked(folder)
    progress = read_progress(folder)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("variant")
    table.add_column("state")
    for heading in ("step", "loss"):
        table.add_column(heading, justify="right")
    reasons = []
    for variant in sweep.variants.values():
        status = variant.status
        now = progress.variants.get(variant.name, {}) if status["status"] in ("running", "interrupted") else {}
        step = now.get("step", variant.facts["steps"])
        loss = now.get("loss", variant.metrics.get("loss"))
        state = status["status"]
        if state == "running" and not alive:
            state = "interrupted"  # its process was killed before it could record that
        steps = f"{step} of {now['steps']:g}" if now.get("steps") else str(step)
        cells = (state, steps, "" if loss is None else f"{loss:.4f}")
        table.add_row(*map(Text, (variant.name, *cells)))
        if status["reason"]:
            reasons.append(f"{variant.name}: {state}: {status['reason']}")
    print_table(console, table)
    for line in (*reasons, _at_work(sweep, progress) if alive else _not_at_work(sweep)):
        say(console, line)


def _not_at_work(sweep: SweepResult) -> str:
    if arrays := queued_arrays(sweep.folder):
        waiting = f"{counted(len(arrays), 'array')} to train, and no process is at work"
        return f"{waiting}; if none waits in a queue, go on with: python train.py resume={sweep.folder}"
    if len(sweep.done) == len(sweep.variants):
        return "all variants are done"
    return f"no process is at work on it; go on with: python train.py resume={sweep.folder}"


def _at_work(sweep: SweepResult, progress: Progress) -> str:
    """Return the progress, the time left, and the time since each process's last heartbeat."""
    if not progress.beats:
        return "a process is at work, and has not taken its first steps"
    states = {variant.name: variant.status["status"] for variant in sweep.variants.values()}
    seconds = progress.seconds_left([name for name, state in states.items() if state not in ENDED])
    left = "" if seconds is None else f", {duration(seconds)} left"
    places = [
        f"process {beat['process']} on {beat['host']}, heard of {duration(time.time() - beat['time'])} ago"
        for beat in progress.beats
    ]
    return f"at work: {share_done(states, progress):.0%} done{left}; {'; '.join(places)}"


if __name__ == "__main__":
    main()
