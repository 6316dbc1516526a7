"""10, 100 and 1,000 variants of a tiny model, planned, trained, reported: do time a variant and memory stay flat?"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from results_table import write_table

ROOT = Path(__file__).parent.parent
COUNTS = (10, 100, 1000)
MIB = 2**20
SIZE = [
    *("data=shapes", "data.image_size=16", "data.train_size=160", "data.val_size=8", "data.batch_size=8"),
    *("model.width=4", "model.code_channels=2", "trainer=cpu", "trainer.max_epochs=1", "array.threads=1"),
]


class Measured(NamedTuple):
    """Seconds of a command, and its peak of memory in MiB, that of processes which it started included."""

    seconds: float
    memory: float


def measure(place: Path, *arguments: str) -> Measured:
    """Run a command."""
    start = time.perf_counter()
    with (place / "output.txt").open("wb") as output:
        process = subprocess.Popen([sys.executable, *arguments], cwd=place, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit((place / "output.txt").read_text())
    return Measured(time.perf_counter() - start, usage.ru_maxrss / 1024)


def row(count: int, launcher: str) -> list[object]:
    """Plan, train and report that many variants."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        command = [
            str(ROOT / "train.py"),
            "-m",
            f"seed=range({count})",
            *SIZE,
            f"hydra/launcher={launcher}",
            "sweep=many",
        ]
        folder = place / "outputs" / "sweeps" / "many"
        plan = measure(place, *command, "plan=true")
        training = measure(place, *command, "report=false")
        report = measure(place, "-m", "losslens.report", str(folder))
        status = measure(place, "-m", "losslens.status", str(folder))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        pages = sorted(folder.glob("report*.html"))
        return [
            *(count, launcher, plan.seconds / count, training.seconds / count, round(training.memory)),
            *(report.seconds / count, round(report.memory), status.seconds, size / count / MIB),
            *(len(pages), max(page.stat().st_size for page in pages) / MIB),
        ]


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments = parser.parse_args()
    head = ["variants", "launcher", "plan, s a variant", "command, s a variant", "MiB at most"]
    head += ["report, s a variant", "MiB at most", "status, s", "MiB on disk a variant", "pages", "MiB of the largest"]
    rows = [row(count, "array") for count in arguments.counts]
    rows.append(row(arguments.counts[-1], "local_gpus"))
    notes = ["20 steps a variant; the command composes, plans, trains, measures and draws, without the report."]
    write_table(__file__, head, rows, notes)


if __name__ == "__main__":
    main()
