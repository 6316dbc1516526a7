"""1 to 64 variants in one array: throughput, memory, and the share of what the machine can do."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from overhead import DEVICE, configuration, images
from results_table import environment, write_table
from torch.utils.flop_counter import FlopCounterMode

from losslens.build import build, build_loss
from losslens.sweep.plan import share_cores
from losslens.training.fit import Variant, fit

COUNTS = (1, 2, 4, 8, 16, 32, 64)
NUM_STEPS = 32 if DEVICE.type == "cpu" else 1280


def array_seconds(count: int) -> tuple[float, float]:
    """Train an array; returns seconds per step of all its variants, and the peak of memory in MiB."""
    config = configuration()
    data = images(NUM_STEPS, config["data"]["batch_size"])
    clock = []
    with tempfile.TemporaryDirectory() as name:
        variants = []
        for seed in range(count):
            folder = Path(name) / str(seed)
            folder.mkdir()
            variants.append(Variant(str(seed), {**config, "seed": seed}, folder, {}))
        workers, threads = share_cores(count, "auto")
        fit(
            variants,
            data,
            num_workers=workers,
            num_threads=threads,
            report=lambda share, _: clock.append((share, time.perf_counter())),
            on_failure=lambda name, error: print(name, error),
            say=print,
        )
    (first, start), (last, end) = clock[0], clock[-1]
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_reserved() / 2**20
    else:
        # Not getrusage's maximum, which counts the program that started this one.
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10
    return (end - start) / (last - first) / NUM_STEPS, peak


def step_work(config: dict[str, Any]) -> tuple[float, float]:
    """Count the floating-point operations of a step, and the least bytes that it moves.

    The bytes: each activation that is kept is written once and read once, as is its gradient; weights are read twice,
    and gradients, weights and Adam's averages are read and written once. Two bytes an activation in bf16.
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
    size = 2 if DEVICE.type == "cuda" else 4
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
    """Measure every count in a process of its own, so that memory is its own, and write the table."""
    if len(sys.argv) > 1:
        print(*array_seconds(int(sys.argv[1])))
        return
    operations, moved = step_work(configuration())
    product, copy = ceilings()
    rows = []
    for count in COUNTS:
        command = [sys.executable, __file__, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
        seconds, peak = map(float, done.stdout.split()[-2:])
        throughput = count / seconds
        against_one = f"{throughput / rows[0][2] if rows else 1:.2f}"
        shares = (f"{throughput * operations / product:.1%}", f"{throughput * moved / copy:.1%}")
        rows.append((count, 1e3 * seconds, throughput, against_one, round(peak), *shares))
    head = ("variants", "ms a step of all", "variant steps / s", "against 1", "peak MiB", "of product", "of copy")
    notes = [
        f"The default variant with as many seeds, {NUM_STEPS} steps each, the first chunk not counted.",
        f"A step: {operations / 1e9:.2f} GFLOP, and {moved / 1e6:.0f} MB at the least.",
        f"Ceilings, measured in the same run: a matrix product {product / 1e9:.0f} GFLOP/s, a copy {copy / 1e9:.1f} "
        "GB/s, read and written.",
        "Memory is what the process holds at its peak, PyTorch itself included."
        if DEVICE.type == "cpu"
        else "Memory is what PyTorch reserves on the GPU at its peak.",
    ]
    write_table(__file__, head, rows, notes)


if __name__ == "__main__":
    main()
