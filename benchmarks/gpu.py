"""All that only a GPU can show, in nine minutes: tests, benchmarks, losses, a profile, the main command.

`make gpu` runs it. The steps come in order of their value; each has a limit of its own, and the others go on when it
fails. Tables are kept in `results/` with the card's name, a summary as `gpu--<card>.md` beside them, all output in
`outputs/gpu/`.

On a machine without a network, `--wheels FOLDER` puts wheels beside the packages that the machine has (`make wheels`).
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
LOGS = ROOT / "outputs" / "gpu"
PYTHON = ROOT / "outputs" / "gpu-python"
MAIN = ["-m", "loss=l1,luma,red,green,blue"]
# Those without weights of their own, and on images that are large enough for each.
ALL_LOSSES = ["-m", "loss=glob(*,exclude=[perceptual,style,lpips,dists])", "data=shapes", "data.image_size=128"]
ALL_LOSSES += ["data.train_size=160", "data.val_size=16", "trainer.max_steps=40", "trainer.val_check_interval=40"]
ALL_LOSSES += ["report=false"]
FEW = ["--counts", "1,16,64", "--steps", "384"]
PY = [sys.executable]
TESTS = [*PY, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
TESTS += [f"--rootdir={ROOT}", *(str(ROOT / "tests" / "training" / f"test_{name}.py") for name in ("array", "fit"))]
CARD = (
    "import torch, sys; print('Python', sys.version.split()[0], 'torch', torch.__version__, 'CUDA', torch.version.cuda)"
    "; card = torch.cuda.get_device_properties(0); print(card.name, card.total_memory >> 20, 'MiB')"
)


class Run:
    """One run of all steps: the folder that they run in, the time that is left, what came of each."""

    def __init__(self, place: Path, deadline: float) -> None:
        self.place = place
        self.deadline = deadline
        self.rows: list[tuple[str, str, float, str]] = []

    def step(self, name: str, limit: float, command: list[str], found: Callable[[str], str] = lambda _: "") -> None:
        """Run a step within its limit and the time that is left; keep its output, and what is found in it."""
        left = min(limit, self.deadline - time.monotonic())
        if left < 10:
            self.rows.append((name, "no time left", 0.0, ""))
            return
        print(f"=== {name}, at most {left:.0f} s", flush=True)
        log, begin = LOGS / f"{name}.log", time.monotonic()
        with log.open("w") as file:
            child = subprocess.Popen(command, cwd=self.place, stdout=file, stderr=file, start_new_session=True)
            try:
                code = child.wait(left)
                state = "done" if code == 0 else f"failed ({code})"
            except subprocess.TimeoutExpired:
                state = "over its limit"
            finally:  # also what it started
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        text = log.read_text(errors="replace")
        seconds = time.monotonic() - begin
        print("\n".join(text.splitlines()[-14:]), f"\n{name}: {state}, {seconds:.1f} s", flush=True)
        self.rows.append((name, state, seconds, found(text)))

    def script(self, name: str, limit: float, script: str, *arguments: str) -> None:
        """Run a benchmark, which keeps its own table."""
        self.step(name, limit, [*PY, str(HERE / f"{script}.py"), *arguments])

    def train(self, name: str, limit: float, *arguments: str) -> None:
        """Run the command, and read who was not captured, who failed and how long it took."""

        def found(text: str) -> str:
            lines = [line.strip() for line in text.splitlines()]
            odd = [line for line in lines if re.search("one step at a time|failed:|out of memory|^error:", line)]
            done = [line for line in lines if re.search(r"loss \S+ after \d+ steps in", line)]
            return "; ".join([f"{len(done)} variants trained", *done[:1], *odd])

        command = [*PY, str(ROOT / "train.py"), *arguments, f"hydra.sweep.dir={name}"]
        self.step(name, limit, command, found)
        for path in (self.place / name).glob("sheet.png"):
            shutil.copy(path, LOGS / f"{name}.png")


def python_with(folder: Path) -> str:
    """Make an environment of this interpreter's packages, wheels of a folder and this project; returns its Python."""
    shutil.rmtree(PYTHON, ignore_errors=True)
    site = PYTHON / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", str(site), *map(str, folder.glob("*.whl"))], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = site / f"losslens-{project['version']}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: losslens\nVersion: {project['version']}\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(PYTHON / "venv")], check=True)
    python = str(PYTHON / "venv" / "bin" / "python")
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    purelib = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    paths = [ROOT / "src", site, sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    (purelib / "losslens.pth").write_text("\n".join(map(str, paths)) + "\n")
    return python


def main() -> None:
    """Run all steps, or those that are named, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="those to run; all by default")
    parser.add_argument("--budget", type=float, default=530, help="seconds in all")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for a machine without a network")
    given = parser.parse_args()
    begin = time.monotonic()
    if given.wheels:
        python = python_with(given.wheels.resolve())
        left = given.budget - (time.monotonic() - begin)
        os.execv(python, [python, __file__, "--budget", str(left), *given.steps])
    import torch  # of the interpreter that has what it needs
    from results_table import write_table

    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA GPU here: make gpu shows what only a GPU can show")

    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        os.environ["LOSSLENS_CACHE"] = str(Path(name) / "cache")
        run = Run(Path(name), begin + given.budget - 5)
        steps = {
            "card": lambda: run.step("card", 60, [*PY, "-c", CARD], lambda text: " ".join(text.split())[-200:]),
            "tests": lambda: run.step("tests", 90, TESTS, lambda text: (text.strip().splitlines() or [""])[-1]),
            "sweep": lambda: run.script("sweep", 150, "sweep", "--no-joblib"),
            "overhead": lambda: run.script("overhead", 45, "overhead", "--repeats", "3"),
            "scaling": lambda: run.script("scaling", 75, "scaling", "--counts", "1,5,16,64", "--steps", "512"),
            "large": lambda: run.script("large", 70, "scaling", "--model", "large", *FEW),
            "losses": lambda: run.train("losses", 50, *ALL_LOSSES, "trainer.deterministic=true"),
            "profile": lambda: run.script("profile", 40, "profile_chunk", "--counts", "1,5,16"),
            "precision": lambda: run.script("precision", 40, "scaling", "--precision", "bf16-mixed", *FEW),
            "command": lambda: run.train("command", 50, *MAIN),
        }
        if unknown := set(given.steps) - steps.keys():
            sys.exit(f"{', '.join(sorted(unknown))}: no such step; there are {', '.join(steps)}")
        for step in given.steps or steps:
            steps[step]()
    rows = [(name, state, round(seconds), text) for name, state, seconds, text in run.rows]
    write_table(__file__, ("step", "", "s", "what it says"), rows, [], " ".join(given.steps))
    sys.exit(any(state != "done" for _, state, _, _ in rows))


if __name__ == "__main__":
    main()
