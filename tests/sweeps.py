"""A sweep of two tiny variants as users run it, to be hurt, and to be compared with one that was not."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from commands import HANGS, kill, start

from losslens.files import write_text

# Each variant, at the end of each step, does as the file beside this module says: from a step on it takes some
# seconds more for every step, once so many variants are done. So what tests do in the midst of training happens there,
# however fast or busy the machine is.
PACE = """
import json, pathlib, time, lightning
FILE = pathlib.Path(__file__).with_name("pace.json")
class Pace(lightning.Callback):
    def on_train_batch_end(self, trainer, *_):
        arrived, variant = time.monotonic(), pathlib.Path(trainer.default_root_dir)
        while FILE.exists():
            try:
                pace = json.loads(FILE.read_text())
            except FileNotFoundError:
                return
            done = len(list(variant.parent.glob("*/metrics.json")))
            if trainer.global_step < pace["step"] or done < pace["done"]:
                return
            (FILE.parent / f"at-{pace['step']}-{variant.name}").touch()
            if time.monotonic() - arrived > pace["seconds"]:
                return
            time.sleep(0.01)
"""
SIZE = ["data=shapes", "data.image_size=16", "data.train_size=200", "data.val_size=16", "data.batch_size=8"]
UNPACED = [*SIZE, "trainer=cpu", "trainer.max_epochs=4", "report=false", "checkpoint.every=13steps", "array.threads=1"]
TINY = [*UNPACED, "+callbacks.pace={_target_:pace.Pace}"]
LOSSES = "loss=l1,red"
VARIANTS = ("loss=l1", "loss=red")
NAME = "mine"


class Sweep:
    """The sweep called `mine` below a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "outputs" / "sweeps" / NAME
        (place / "pace.py").write_text(PACE)

    def command(self, *arguments: str, losses: str = LOSSES, size: list[str] = TINY) -> list[str]:
        return ["train.py", "-m", losses, f"sweep={NAME}", *size, *arguments]

    def resumption(self, *arguments: str) -> list[str]:
        return ["train.py", f"resume={self.folder}", "report=false", *arguments]

    def start(self, command: list[str] | None = None, **settings):
        return start(command or self.command(), self.place, **settings)

    def run(self, command: list[str] | None = None, **settings) -> subprocess.CompletedProcess[str]:
        process = self.start(command, **settings)
        out, errors = process.communicate(timeout=HANGS)
        assert "Traceback" not in errors
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def held(self, step: int, command: list[str] | None = None, *, variants: int = 1, done: int = 0, **settings):
        """Start a command; returns it when so many variants have taken so many steps, and wait."""
        self.pace(step, float("inf"), done)
        process = self.start(command, **settings)
        self.wait_for(lambda: len(list(self.place.glob(f"at-{step}-*"))) >= variants, process)
        assert process.poll() is None, process.communicate()
        return process

    def killed(self, step: int, command: list[str] | None = None) -> None:
        """Start a command, and kill it when a variant has taken so many steps."""
        kill(self.held(step, command))
        self.let_go()

    def pace(self, step: int, seconds: float, done: int = 0) -> None:
        """Let each step of each variant take some seconds more, from a step on, once so many variants are done."""
        write_text(self.place / "pace.json", json.dumps({"step": step, "seconds": seconds, "done": done}))

    def let_go(self) -> None:
        """Let training go as fast as it can."""
        (self.place / "pace.json").unlink()
        for file in self.place.glob("at-*"):
            file.unlink()

    def wait_for(self, what: Callable[[], object], process) -> None:
        deadline = time.monotonic() + HANGS
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
        """Nothing is half written: every JSON is whole, every picture opens."""
        from PIL import Image

        for path in self.folder.rglob("*.json"):
            json.loads(path.read_text())
        for path in self.folder.rglob("*.png"):
            if not path.name.startswith("."):
                Image.open(path).load()
