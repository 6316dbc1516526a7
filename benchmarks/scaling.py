"""1 to 64 variants in one array: throughput, memory, and the share of what the machine can do."""

import argparse
import gc
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from overhead import DEVICE, Clock, configuration, images, precision
from results_table import environment, write_table
from torch.utils.flop_counter import FlopCounterMode

from losslens.build import build, build_loss
from losslens.run.plan import share_cores
from losslens.training.fit import fit
from losslens.variant import Variant

COUNTS = "1,2,4,8,16,32,64" if DEVICE.type == "cpu" else "1,5,16,64"
VARIED = ("model", "precision", "batch")
NUM_STEPS = 32 if DEVICE.type == "cpu" else 1280


def array_seconds(configs: Sequence[dict[str, Any]], num_steps: int) -> float:
    """Train an array of these configurations; returns seconds per step of all, the first chunk not counted."""
    data = images(num_steps, configs[0]["data"]["batch_size"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        variants = []
        for place, config in enumerate(configs):
            folder = Path(name) / str(place)
            folder.mkdir()
            variants.append(Variant(str(place), config, folder, {}))
        workers, threads = share_cores(len(variants), "auto")
        fit(variants, data, clock, num_workers=workers, num_threads=threads)
    return clock.seconds() / num_steps


def seeds(config: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Make configurations that differ in their seeds."""
    return [{**config, "seed": seed} for seed in range(count)]


def peak_memory() -> float:
    """Return the most memory that was held so far, in MiB: on a GPU that of PyTorch, else that of the process."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_reserved() / 2**20
    # Not getrusage's maximum, which counts the program that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def step_work(config: dict[str, Any]) -> tuple[float, float]:
    """Count the floating-point operations of a step, and the least bytes that it moves.

    The bytes: each activation that is kept is written once and read once, as is its gradient; weights are read twice,
    and gradients, weights and averages are read and written once. Two bytes an activation in bf16.
    """
    model, loss = build(config["model"]), build_loss(config["loss"])
    batch = torch.rand(config["data"]["batch_size"], 3, 128, 128)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss(model(batch), batch).backward()
    weights = sum(weight.numel() for weight in model.parameters())
    size = 2 if "bf16" in precision(config) else 4
    return counter.get_total_flops(), 4 * size * sum(kept.values()) + 4 * 9 * weights


def ceilings() -> tuple[float, float]:
    """Measure a large matrix product, in operations per second, and a large copy, in bytes per second."""
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    side = 8192 if DEVICE.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
    source = torch.randn(2**28 if DEVICE.type == "cuda" else 2**25, device=DEVICE)
    target = torch.empty_like(source)
    operations = 2 * side**3 / _best(lambda: a @ b)
    return operations, 2 * source.nbytes / _best(lambda: target.copy_(source))


def _best(function: Any) -> float:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        function()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure every count, on a CPU in a process of its own, so that memory is its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--counts", default=COUNTS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    changes = {"model": given.model, "trainer.precision": given.precision, "data.batch_size": given.batch}
    config = configuration(**changes)
    if given.one:
        print(array_seconds(seeds(config, given.one), given.steps), peak_memory())
        return
    operations, moved = step_work(config)
    product, copy = ceilings()
    rows: list[tuple[object, ...]] = []
    for count in map(int, given.counts.split(",")):
        if DEVICE.type == "cuda":  # its memory can be counted anew
            gc.collect()  # Trainers and modules hold each other
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            seconds, peak = array_seconds(seeds(config, count), given.steps), peak_memory()
        else:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
            seconds, peak = map(float, done.stdout.split()[-2:])
        throughput = count / seconds
        against_one = f"{throughput / rows[0][2] if rows else 1:.2f}"
        shares = (f"{throughput * operations / product:.1%}", f"{throughput * moved / copy:.1%}")
        rows.append((count, 1e3 * seconds, throughput, against_one, round(peak), *shares))
        print(*rows[-1], flush=True)
    head = ("variants", "ms a step of all", "variant steps / s", "against 1", "peak MiB", "of product", "of copy")
    notes = [
        f"Model {given.model}, {precision(config)}, batches of {given.batch} crops of 128x128, optimizer and loss of "
        f"the default variant, with as many seeds; {given.steps} steps each, the first chunk not counted.",
        f"A step: {operations / 1e9:.2f} GFLOP, and {moved / 1e6:.0f} MB at the least.",
        f"Ceilings, measured in the same run: a matrix product {product / 1e9:.0f} GFLOP/s, a copy {copy / 1e9:.1f} "
        "GB/s, read and written.",
        "Memory is what the process holds at its peak, PyTorch itself included."
        if DEVICE.type == "cpu"
        else "Memory is what PyTorch reserves on the GPU at its peak.",
    ]
    varied = [str(value) for name, value in vars(given).items() if name in VARIED and value != parser.get_default(name)]
    write_table(__file__, head, rows, notes, " ".join(varied))


if __name__ == "__main__":
    main()
