"""What a GPU does in one replayed span: kernels a step, gaps between them, how many at once, which take the time."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from overhead import DEVICE, Clock, configuration, images
from results_table import write_table
from torch.profiler import ProfilerActivity, profile

from losslens.training import cuda
from losslens.training.fit import fit
from losslens.variant import Variant

FEW = 8  # variants
NUM_SPANS = 12
PROFILED = 8  # this one, counted from 1
MOST_SHOWN = 12  # kinds of kernels


def union(spans: list[tuple[float, float]]) -> tuple[float, int]:
    """Return the length of the union of spans, from begin to end, and the most that overlap."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    depth = most = 0
    for _, change in sorted([(first, 1) for first, _ in spans] + [(last, -1) for _, last in spans]):
        depth += change
        most = max(most, depth)
    return total, most


def span_of(count: int) -> int:
    """Return how many steps of an array are profiled: many kernels make a profile take long."""
    return 16 if count <= FEW else 4


def profiled(count: int, changes: dict[str, Any]) -> tuple[list[Any], float]:
    """Train an array; returns the kernels of one span, and the seconds per step of those before it."""
    config = configuration(**changes)
    span = span_of(count)
    data = images(span * NUM_SPANS, config["data"]["batch_size"])
    prof = profile(activities=[ProfilerActivity.CUDA])
    clock: list[float] = []
    ask = cuda.GraphEngine._ask

    def watched(self: Any, *arguments: Any) -> Any:
        clock.append(time.perf_counter())
        if len(clock) != PROFILED:
            return ask(self, *arguments)
        torch.cuda.synchronize()
        clock[-1] = time.perf_counter()
        with prof:
            asked = ask(self, *arguments)
            torch.cuda.synchronize()
        return asked

    cuda.GraphEngine._ask = watched
    cuda.SPAN_STEPS = span
    with tempfile.TemporaryDirectory() as name:
        variants = []
        for seed in range(count):
            (folder := Path(name) / str(seed)).mkdir()
            variants.append(Variant(str(seed), {**config, "seed": seed}, folder, {}))
        fit(variants, data, Clock(), num_workers=1, num_threads=1)
    cuda.GraphEngine._ask = ask
    kernels = [each for each in prof.events() if each.device_type == torch.autograd.DeviceType.CUDA]
    seconds = (clock[PROFILED - 1] - clock[2]) / (PROFILED - 3) / span
    return [each for each in kernels if each.time_range.end > each.time_range.start], seconds


def main() -> None:
    """Profile arrays of some sizes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--counts", default="1,5,64")
    given = parser.parse_args()
    if DEVICE.type != "cuda":
        sys.exit("this needs a GPU")
    rows, notes = [], []
    for count in map(int, given.counts.split(",")):
        kernels, seconds = profiled(count, {"model": given.model})
        span = span_of(count)
        spans = [(each.time_range.start, each.time_range.end) for each in kernels]
        begin, end = min(first for first, _ in spans), max(last for _, last in spans)
        busy, most = union(spans)
        work = sum(last - first for first, last in spans)
        row = (count, 1e3 * seconds, (end - begin) / 1e3 / span, round(len(kernels) / span / count))
        rows.append((*row, f"{busy / (end - begin):.0%}", f"{work / (end - begin):.2f}", most))
        lengths: Counter[str] = Counter()
        for each in kernels:
            lengths[each.name] += each.time_range.end - each.time_range.start
        calls = Counter(each.name for each in kernels)
        for name, length in lengths.most_common(MOST_SHOWN):
            notes.append(
                f"{count} variants: {length / work:.1%} of the time of all kernels, {calls[name] / span / count:.1f} a "
                f"step of a variant, {length / calls[name]:.1f} us each: `{name[:100]}`"
            )
    head = (
        "variants",
        "ms a step of all",
        "ms of it on the GPU",
        "kernels a variant's step",
        "busy",
        "overlap",
        "most",
    )
    notes.append(
        f"Model {given.model}, {span_of(1)} steps of each array, {span_of(FEW + 1)} if it has more than {FEW} "
        "variants. Busy: share of the time in which a kernel runs; overlap: the sum of their durations, as a multiple "
        "of the time; most: kernels at once."
    )
    write_table(__file__, head, rows, notes, "" if given.model == "small" else given.model)


if __name__ == "__main__":
    main()
