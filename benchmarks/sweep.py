"""Five variants: arrays against what one writes without losslens. See README.md for the rules."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from overhead import configuration, precision
from PIL import Image
from results_table import need, write_table
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
    """Seconds of the whole command and of its training, final validation losses by name, seconds a step of all."""

    command: float
    training: float
    losses: dict[str, float]
    steady: float  # in the midst of training: start, capture, first chunk and validation are left out


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
    steady = array_seconds([configuration(loss=loss) for loss in LOSSES], max(steps, STEADY_STEPS))
    return Result(seconds, max(result["seconds"] for result in results.values()), losses, steady)


def write_images(images: Images, folder: Path) -> None:
    """Write images as the files that a torchvision data set reads."""
    for part, pixels in images._asdict().items():
        (folder / part / "all").mkdir(parents=True)
        for index, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / part / "all" / f"{index:05}.png")


def main() -> None:
    """Measure all, and write the table."""
    need("hydra_plugins.hydra_joblib_launcher")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    num_steps = parser.parse_args().steps
    device = "gpu" if torch.cuda.is_available() else "cpu"
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
    num_workers = min(torch.get_num_threads(), MAX_WORKERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(images, folder / "images")
        places = {place: folder / place for place in ("a0", "an", "b", "d")}
        for place in places.values():
            place.mkdir()
        where = (folder / "images", places["a0"], num_steps, device)
        a0 = plain(*where)
        an = plain(where[0], places["an"], num_steps, device, f"workers={num_workers}")
        b = plain(
            where[0], places["b"], num_steps, device, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={num_workers}"
        )
        d = arrays(places["d"], num_steps, device)
    on_device = images.train.to("cuda" if device == "gpu" else "cpu")
    c = seconds_per_step(on_device, BATCH_SIZE, VMAP_STEPS[device], bf16="bf16" in precision(configuration()))
    a = min(a0, an)
    for other in (a, b):
        for loss in LOSSES:
            assert abs(other.losses[loss] - d.losses[loss]) < SAME, (loss, other.losses, d.losses)
    trained = num_steps * len(LOSSES)

    def row(what: str, result: Result) -> tuple[object, ...]:
        return what, result.command, result.training, trained / result.training, len(LOSSES) / result.steady

    def times(other: Result, mine: Result) -> list[str]:
        return [f"{x / y:.2f} times" for x, y in zip(other[:2], mine[:2], strict=True)]

    steady = min(a0.steady, an.steady)
    rows = [
        row("a: one Trainer after another, 0 data workers", a0),
        row(f"a: the same, {num_workers} data workers", an),
        (*row(f"b: hydra-joblib-launcher, {num_workers} processes", b)[:4], "not measured"),
        ("c: stack_module_state and vmap", "not measured", num_steps * c, len(LOSSES) / c, len(LOSSES) / c),
        row("d: losslens arrays", d),
        ("d against the better a", *times(a, d), "", f"{steady / d.steady:.2f} times"),
        ("d against b", *times(b, d), "", ""),
        ("d against c", "", f"{num_steps * c / d.training:.2f} times", "", f"{c / d.steady:.2f} times"),
    ]
    losses = (f"{loss} {a.losses[loss]:.4f} / {b.losses[loss]:.4f} / {d.losses[loss]:.4f}" for loss in LOSSES)
    notes = [
        f"Five variants ({', '.join(LOSSES)}), {num_steps} steps each, batches of {BATCH_SIZE} crops of 128x128, model "
        f"small, {precision(configuration())} on all sides.",
        "Validation at the end: a and b the loss alone, d all metrics, pictures and checkpoints, inside its training "
        "seconds. b's training seconds have its processes' first imports outside.",
        "Steady: variant steps a second in the midst of training; start, first chunk (of a the first 64 steps), "
        "capture and validation are left out. Of a, the seconds a step of the five added up.",
        f"Final validation losses of a, b and d agree within {SAME}: {', '.join(losses)}.",
        f"c is {VMAP_STEPS[device]} steps, of which the last three quarters count, scaled to {num_steps}; with Adam, "
        "whose steps cost less than those of Muon; on a GPU a captured graph.",
    ]
    head = ("what", "command, s", "training, s", "variant steps / s", "steady")
    write_table(__file__, head, rows, notes, "" if num_steps == parser.get_default("steps") else f"{num_steps} steps")


if __name__ == "__main__":
    main()
