"""One variant: losslens, under Lightning's Trainer, against a bare loop, or on a GPU a hand-written CUDA graph."""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from results_table import write_table
from torch import Tensor

from losslens.build import build, build_loss
from losslens.data import Images
from losslens.data.store import OrderStream, gather
from losslens.overrides import register_resolvers
from losslens.training.fit import fit
from losslens.training.listener import Listener
from losslens.training.trainer import trainer_settings
from losslens.variant import Variant

HERE = Path(__file__).parent
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NUM_STEPS = 150 if DEVICE.type == "cpu" else 3072
NUM_COMPARED = 24 if DEVICE.type == "cpu" else 320
SAME = 1e-3  # relative, of the weights


def configuration(**changes: Any) -> dict[str, Any]:
    """Compose the default variant, trained for the steps to measure with one validation at the end."""
    overrides = [f"trainer={'gpu' if DEVICE.type == 'cuda' else 'cpu'}", "trainer.max_epochs=1"]
    register_resolvers()
    with initialize_config_dir(str(HERE.parent / "conf"), version_base="1.3"):
        config = compose("train", [*overrides, *(f"{key}={value}" for key, value in changes.items())])
    return dict(OmegaConf.to_container(config, resolve=True))


def precision(config: dict[str, Any]) -> str:
    """Name the precision that a variant is trained in."""
    return str(trainer_settings(config)["precision"])


def images(num_steps: int, batch_size: int) -> Images:
    """Make random images for an epoch of that many steps, and one for validation."""
    generator = torch.Generator().manual_seed(0)
    small, one = (torch.randint(0, 256, (n, 3, 128, 128), dtype=torch.uint8, generator=generator) for n in (2400, 1))
    return Images(small.repeat(-(-num_steps * batch_size // len(small)), 1, 1, 1)[: num_steps * batch_size], one)


class Clock(Listener):
    """Takes the time of every chunk; what is told to the user means that it is not measured as it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, float]] = []

    def progress(self, share: float, describe: Any) -> None:
        """Keep the share of the steps that is done, and when."""
        self.times.append((share, time.perf_counter()))

    def say(self, text: str) -> None:
        """End the program."""
        sys.exit(text)

    def seconds(self) -> float:
        """Return the seconds of all steps, the first chunk, with warm-up and capture, not counted."""
        (first, start), (last, end) = self.times[0], self.times[-1]
        return (end - start) / (last - first)


def losslens_seconds(config: dict[str, Any], data: Images) -> tuple[float, dict[str, Tensor]]:
    """Train with losslens, clock from the first step to the last; returns seconds and weights."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        variant = Variant("variant", config, Path(name), {})
        fit([variant], data, clock, num_workers=1, num_threads=torch.get_num_threads())
        checkpoint = torch.load(Path(name) / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    return clock.seconds(), checkpoint["state_dict"]


def bare_seconds(config: dict[str, Any], data: Images, num_steps: int) -> tuple[float, dict[str, Tensor]]:
    """Train as one writes it by hand: the same order, model, loss, optimizer and schedule."""
    torch.manual_seed(config["seed"])
    bf16 = "bf16" in precision(config)
    model, loss = build(config["model"]).to(DEVICE), build_loss(config["loss"]).to(DEVICE)
    optimizer = build(config["optimizer"])(model.parameters())
    if DEVICE.type == "cuda":
        optimizer.param_groups[0]["capturable"] = True  # which Adam asks for
    schedule = build(config["schedule"])(optimizer, total_steps=num_steps)
    store = data.train.to(DEVICE)
    stream = OrderStream(config["seed"])
    order = stream.draw(len(store), config["data"]["batch_size"], num_steps, config["data"]["flip"])
    indices, mirror = (part.to(DEVICE) for part in order)
    now = torch.zeros(1, dtype=torch.int64, device=DEVICE)

    def step() -> None:
        batch = gather(store, indices.index_select(0, now)[0], mirror.index_select(0, now)[0])
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            reconstructions = model(batch)
        value = loss(reconstructions.float(), batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        now.add_(1)

    first = 8 if DEVICE.type == "cpu" else num_steps // 8
    replay = step
    for position in range(num_steps):
        if position == 3 and DEVICE.type == "cuda":
            rate = torch.tensor(optimizer.param_groups[0]["lr"], device=DEVICE)
            host = torch.optim.SGD([torch.zeros(1)], config["optimizer"]["lr"])
            schedule = build(config["schedule"])(host, total_steps=num_steps)
            for _ in range(position):
                host.step()
                schedule.step()
            optimizer.param_groups[0]["lr"] = rate
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            replay = graph.replay
        if position >= 3 and DEVICE.type == "cuda":
            rate.fill_(host.param_groups[0]["lr"])
        if position == first:
            _wait()
            start = time.perf_counter()
        replay()
        schedule.step() if position + 1 < num_steps else None
    _wait()
    seconds = (time.perf_counter() - start) * num_steps / (num_steps - first)
    return seconds, {f"autoencoder.{name}": weight.cpu() for name, weight in model.state_dict().items()}


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def largest_difference(config: dict[str, Any]) -> float:
    """Train a few steps with both, deterministically; returns the largest relative difference of a weight."""
    config = {**config, "trainer": {**config["trainer"], "deterministic": True}}
    data = images(NUM_COMPARED, config["data"]["batch_size"])
    _, weights = losslens_seconds(config, data)
    torch.use_deterministic_algorithms(True)
    _, same = bare_seconds(config, data, NUM_COMPARED)
    torch.use_deterministic_algorithms(False)
    return max(float((weights[name] - same[name]).norm() / same[name].norm()) for name in same)


def main() -> None:
    """Measure both in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    config = configuration()
    difference = largest_difference(config)
    assert difference < SAME, difference
    data = images(NUM_STEPS, config["data"]["batch_size"])
    pairs = []
    for _ in range(repeats):
        pairs.append((losslens_seconds(config, data)[0], bare_seconds(config, data, NUM_STEPS)[0]))
    ours, bare = (median(side) for side in zip(*pairs, strict=True))
    ratios = [ours / bare for ours, bare in pairs]
    what = "a bare loop" if DEVICE.type == "cpu" else "a hand-written CUDA graph"
    rows = [
        ("losslens, one variant", 1e3 * ours / NUM_STEPS, ""),
        (what, 1e3 * bare / NUM_STEPS, ""),
        ("losslens against it", f"{median(ratios):.3f} times the time", f"{min(ratios):.3f} to {max(ratios):.3f}"),
    ]
    notes = [
        f"{NUM_STEPS} steps of the default variant, {repeats} times in turn; medians, and the range of the ratio.",
        f"Largest relative difference of a weight after {NUM_COMPARED} deterministic steps: {difference:.1e}.",
        "Validation, pictures and checkpoints are outside of the clock; what losslens logs is inside.",
    ]
    write_table(__file__, ("what", "ms a step", "range"), rows, notes)


if __name__ == "__main__":
    main()
