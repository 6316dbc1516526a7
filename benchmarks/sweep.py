"""Five variants: arrays against what one writes without losslens. See README.md for the rules."""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import bench_extra  # noqa: F401
import torch
from overhead import configuration, precision
from PIL import Image
from results_table import write_table
from scaling import array_seconds
from vmap import seconds_per_step

from losslens.data import Images, Photos

HERE = Path(__file__).parent
LOSSES = ("l1", "luma", "red", "green", "blue")
BATCH_SIZE = 4
SAME = 0.01  # final validation losses differ by less: both learned the same, from other random numbers
VMAP_STEPS = {"cpu": 40, "gpu": 800}
STEADY_STEPS = 300 if not torch.cuda.is_available() else 2560
MAX_WORKERS = 8  # of data, and processes at once: more only wait for the device


class Result(NamedTuple):
    """Seconds of the command and of its training, validation losses at its end, and seconds a step of all five."""

    command: float
    training: float
    losses: dict[str, float]
    step: float


def run(command: list[object], place: Path) -> float:
    """Run a command in a folder; returns its seconds."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], cwd=place, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def plain(images: Path, place: Path, steps: int, device: str, *settings: str) -> Result:
    """Measure `plain.py`, the sweep as one writes it."""
    command: list[object] = [sys.executable, HERE / "plain.py", "-m", f"loss={','.join(LOSSES)}", f"images={images}"]
    command += [*settings, f"steps={steps}", f"accelerator={device}", f"precision={precision(configuration())}"]
    seconds = run(command, place)
    results = [json.loads(path.read_text()) for path in place.rglob("result.json")]
    span = max(result["end"] for result in results) - min(result["start"] for result in results)
    losses = {result["loss"]: result["val_loss"] for result in results}
    return Result(seconds, span, losses, sum(result["seconds_per_step"] for result in results))


def arrays(place: Path, steps: int, device: str) -> Result:
    """Measure losslens, which also computes all its metrics and draws its pictures."""
    command: list[object] = [
        sys.executable,
        HERE.parent / "train.py",
        "-m",
        f"loss={','.join(LOSSES)}",
        "hydra.sweep.dir=sweep",
    ]
    command += [f"trainer={device}", f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"]
    seconds = run(command, place)
    results = {path.parent.name: json.loads(path.read_text()) for path in place.glob("sweep/*/metrics.json")}
    losses = {name.removeprefix("loss="): result["metrics"]["loss"] for name, result in results.items()}
    return Result(seconds, max(result["seconds"] for result in results.values()), losses, steady_arrays(steps))


def steady_arrays(steps: int) -> float:
    """Measure losslens in the midst of training; returns seconds per step of all five."""
    return array_seconds([configuration(loss=loss) for loss in LOSSES], max(steps, STEADY_STEPS))


def write_images(images: Images, folder: Path) -> None:
    """Write images as the files that a torchvision data set reads."""
    for part, pixels in images._asdict().items():
        (folder / part / "all").mkdir(parents=True)
        for index, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / part / "all" / f"{index:05}.png")


def main() -> None:
    """Measure all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--no-joblib", action="store_true", help="leave out b")
    given = parser.parse_args()
    steps, device = given.steps, "gpu" if torch.cuda.is_available() else "cpu"
    images = Photos(
        image_size=128,
        train_size=1600,
        val_size=72,
        val_fraction=0.2,
        batch_size=BATCH_SIZE,
        flip=True,
        resident=True,
        seed=0,
    ).decode()
    workers = min(torch.get_num_threads(), MAX_WORKERS)
    with tempfile.TemporaryDirectory() as name:
        places = {place: Path(name) / place for place in ("images", "a0", "an", "b", "d")}
        for place in places.values():
            place.mkdir()
        write_images(images, places["images"])
        sides = {
            "a0": plain(places["images"], places["a0"], steps, device),
            "an": plain(places["images"], places["an"], steps, device, f"workers={workers}"),
        }
        if not given.no_joblib:
            joblib = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}")
            sides["b"] = plain(places["images"], places["b"], steps, device, *joblib)
        sides["d"] = d = arrays(places["d"], steps, device)
    on_device = images.train.to("cuda" if device == "gpu" else "cpu")
    c = seconds_per_step(on_device, BATCH_SIZE, VMAP_STEPS[device], bf16="bf16" in precision(configuration()))
    for side, loss in itertools.product(sides.values(), LOSSES):
        assert abs(side.losses[loss] - d.losses[loss]) < SAME, (loss, sides)

    whats = {
        "a0": "a: one Trainer after another, 0 data workers",
        "an": f"a: one Trainer after another, {workers} data workers",
        "b": f"b: hydra-joblib-launcher, {workers} processes",
        "d": "d: losslens arrays",
    }
    count, unknown = len(LOSSES), "not measured"
    rows: list[tuple[object, ...]] = []
    for name, side in sides.items():
        steady = unknown if name == "b" else count / side.step  # its processes take steps at the same time
        rows.append((whats[name], side.command, side.training, steps * count / side.training, steady))
    rows.append(("c: stack_module_state and vmap", unknown, steps * c, count / c, count / c))
    for what, others in (("d against the better a", ("a0", "an")), ("d against b", ("b",))):
        if found := [sides[name] for name in others if name in sides]:
            command, training = (min(getattr(side, part) for side in found) for part in ("command", "training"))
            rows.append((what, times(command, d.command), times(training, d.training), "", ""))
    best = min(sides["a0"].step, sides["an"].step)
    rows.append(("d against the better a, steady", "", "", "", times(best, d.step)))
    rows.append(("d against c, steady", "", "", "", times(c, d.step)))
    losses = ", ".join(f"{loss} {' / '.join(f'{side.losses[loss]:.4f}' for side in sides.values())}" for loss in LOSSES)
    notes = [
        f"Five variants ({', '.join(LOSSES)}), {steps} steps each, batches of {BATCH_SIZE} crops of 128x128, model "
        f"small, {precision(configuration())} on all sides.",
        "Validation at the end: a and b the loss alone, d all metrics, pictures and checkpoints, inside its training "
        "seconds. b's training seconds have its processes' first imports outside.",
        "Steady: variant steps a second in the midst of training; start, first chunk (of a the first 64 steps), "
        "capture and validation are left out. Of a, the seconds a step of the five added up.",
        f"Final validation losses, in the order of the rows, agree within {SAME}: {losses}.",
        f"c is {VMAP_STEPS[device]} steps, of which the last three quarters count, scaled to {steps}; with Adam, whose "
        "steps cost less than those of Muon; on a GPU a captured graph.",
    ]
    variety = "" if steps == parser.get_default("steps") else f"{steps} steps"
    head = ("what", "command, s", "training, s", "variant steps / s", "steady")
    write_table(__file__, head, rows, notes, variety)


def times(other: float, mine: float) -> str:
    """Say how many times as long the other takes."""
    return f"{other / mine:.2f} times"


if __name__ == "__main__":
    main()
