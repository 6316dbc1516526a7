"""From the command to its help, and to the end of its first training step."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
from results_table import environment, write_table

TRAIN = Path(__file__).parent.parent / "train.py"
REPEATS = 5


class FirstStep(L.Callback):
    """Print the time at which the first step is done."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Print it once."""
        if trainer.global_step == 1:
            print("first step", time.time(), flush=True)


def help_seconds() -> float:
    """Run `train.py --help`."""
    start = time.time()
    subprocess.run([sys.executable, TRAIN, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.time() - start


def import_seconds(*, all_of_scipy: bool) -> float:
    """Import what a training needs, with or without the stand-in for `scipy.signal`."""
    code = "from losslens.console import fast_imports, leave; import contextlib, gc\n"
    code += "gc.disable()\nwith contextlib.nullcontext():\n" if all_of_scipy else "with fast_imports():\n"
    code += "    import losslens.run.command\nleave()"
    start = time.time()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.time() - start


def first_step_seconds(*arguments: str) -> float:
    """Run a command until the first variant has taken its first step."""
    callbacks = "trainer.callbacks=[{_target_: startup.FirstStep}]"
    with tempfile.TemporaryDirectory() as place:
        start = time.time()
        done = subprocess.run(
            [sys.executable, TRAIN, *arguments, callbacks, "trainer.max_steps=1", "trainer.limit_val_batches=1"],
            cwd=place,
            check=True,
            capture_output=True,
            text=True,
            env=environment(),
        )
    (first, *_) = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("first step")]
    return first - start


def main() -> None:
    """Measure, and write the table."""
    cases = {
        "train.py --help": help_seconds,
        "imports of a training": lambda: import_seconds(all_of_scipy=False),
        "the same, without the stand-in for scipy.signal": lambda: import_seconds(all_of_scipy=True),
        "train.py": first_step_seconds,
        "train.py -m loss=l1,luma,red,green,blue": lambda: first_step_seconds("-m", "loss=l1,luma,red,green,blue"),
    }
    rows = []
    for what, measure in cases.items():
        measure()  # so that files are in the cache of the system
        times = [measure() for _ in range(REPEATS)]
        rows.append((what, median(times), f"{min(times):.2f} to {max(times):.2f}"))
    notes = [f"{REPEATS} times each after one that does not count; to the end of the first step of the first variant."]
    write_table(__file__, ("command", "median, s", "range"), rows, notes)


if __name__ == "__main__":
    main()
