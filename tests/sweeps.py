"""A sweep of two tiny variants as users run it, to be hurt, and to be compared with one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from conftest import ROOT

SIZE = ["data=shapes", "data.image_size=16", "data.train_size=400", "data.val_size=16", "data.batch_size=8"]
TINY = [*SIZE, "trainer=cpu", "trainer.max_epochs=6", "report=false", "checkpoint.every=13steps", "array.threads=1"]
LOSSES = "loss=l1,red"
VARIANTS = ("loss=l1", "loss=red")
NAME = "mine"


class Sweep:
    """The sweep called `mine` below a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "outputs" / "sweeps" / NAME

    def command(self, *arguments: str, losses: str = LOSSES, size: list[str] = TINY) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), "-m", losses, f"sweep={NAME}", *size, *arguments]

    def resumption(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), f"resume={self.folder}", "report=false", *arguments]

    def start(self, command: list[str] | None = None, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command or self.command(),
            cwd=self.place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.place), **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, command: list[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(command, **environment)
        out, errors = process.communicate(timeout=300)
        assert "Traceback" not in errors
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def wait_for(self, what: Callable[[], object], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while not what() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def saved_step(self, name: str = VARIANTS[-1]) -> int:
        try:
            with (self.folder / name / "checkpoints" / "state.ckpt").open("rb") as file:
                return int(file.readline().split()[1])
        except (OSError, IndexError):
            return 0

    def status(self, name: str) -> dict:
        return json.loads((self.folder / name / "status.json").read_text())

    def states(self) -> list[str]:
        return [self.status(name)["status"] for name in VARIANTS]

    def processes(self, word: str) -> list[int]:
        """Numbers of the Python processes of this sweep that have a word among their arguments, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if word in command and "torch.distributed.run" not in command and process.cwd() == str(self.place):
                    found.append((process.create_time(), process.pid))
        return [number for _, number in sorted(found)]

    def results(self, name: str) -> dict:
        """All that a variant learned and measured, without times."""
        folder = self.folder / name
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        numbers = json.loads((folder / "metrics.json").read_text())
        return {
            "weights": {key: weight.tolist() for key, weight in checkpoint["state_dict"].items()},
            "optimizer": str(checkpoint["optimizer_states"]),
            "metrics": numbers["metrics"],
            "losses": numbers["losses"],
            "table": (folder / "metrics.csv").read_text(),
            "grid": (folder / "grid.png").read_bytes(),
            "pictures": sorted(path.name for path in (folder / "pictures").iterdir()),
        }

    def whole(self) -> None:
        """Nothing is half written: every JSON is whole, every picture opens, nothing is left aside."""
        from PIL import Image

        for path in self.folder.rglob("*.json"):
            json.loads(path.read_text())
        for path in self.folder.rglob("*.png"):
            if not path.name.startswith("."):
                Image.open(path).load()
