"""Plan a sweep: from its jobs to variants, and from variants to arrays that train one after another."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from losslens.build import as_count
from losslens.data.source import Images
from losslens.files import unique
from losslens.machine import free_memory
from losslens.overrides import job_values
from losslens.settings import check_settings
from losslens.training.costs import StepBytes, VariantCost, trial_trainer, variant_costs
from losslens.training.cuda import NUM_STREAMS
from losslens.training.state import parse_interval
from losslens.training.trainer import determinism_as_before, trainer_settings
from losslens.variant import HParam, Job, Variant, VariantConfig, config_key, folder_name, varied_values

PARTS = ("model", "loss", "optimizer", "data", "trainer")  # that each variant needs
BASELINE_KINDS = ("klt", "mean", "jpeg")
MAX_SHARE_OF_FREE_MEMORY = 0.8  # allocators waste some, and validation needs some


def plan_variants(jobs: Sequence[Job], folder: Path, *, single: bool) -> list[Variant]:
    """Name the variants, place them in folders, and resolve their configurations.

    Names list what differs between the jobs, or in a search all that it varies.
    """
    configs = [_checked(config) for config, *_ in jobs]
    values = [job_values(overrides, choices) for _, overrides, choices in jobs]
    searched = jobs[0][0].searched
    varied = (
        [{key: value[key] for key in searched if key in value} for value in values]
        if searched
        else varied_values(values)
    )
    names = unique([folder_name(value) for value in varied])
    variants = []
    for (_, _, choices), resolved, name, own, differing in zip(jobs, configs, names, values, varied, strict=True):
        main: dict[str, HParam] = {"loss": own["loss"], "model": choices["model"], "data": choices["data"]}
        hparams = {
            **main,
            "seed": resolved["seed"],
            **{k: v for k, v in differing.items() if k not in ("loss", "seed")},
        }
        variants.append(Variant(name, resolved, folder if single else folder / name, hparams))
    threads = {
        variant.name: share_cores(len(group), group[0].config["array"]["threads"])[1]
        for group in group_variants(variants)
        for variant in group
    }
    return [replace(variant, threads=threads[variant.name]) for variant in variants]


def _checked(config: DictConfig) -> VariantConfig:
    """Resolve the configuration of a job.

    Raises:
        ValueError: if a setting has a value that is not allowed.
    """
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    check_settings(settings, PARTS)
    resolved = cast(VariantConfig, {"schedule": None, **settings})  # schedule=null leaves the group out
    parse_interval(resolved["checkpoint"]["every"])
    check_baselines(resolved["baselines"])
    return resolved


def check_baselines(names: object) -> None:
    """Raise a ValueError if baselines are not a list of known kinds."""
    if not isinstance(names, list) or set(map(str, names)) - set(BASELINE_KINDS):
        raise ValueError(
            f"baselines {names} is no list of {', '.join(BASELINE_KINDS)}: try 'baselines=[mean,klt,jpeg]'"
        )


def group_variants(variants: Sequence[Variant]) -> list[list[Variant]]:
    """Group the variants that can train in one array, in their order."""
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        config = variant.config
        shared = config_key(config["data"], config["array"], trainer_settings(config), variant.threads)
        groups.setdefault(shared, []).append(variant)
    return list(groups.values())


def share_cores(num_variants: int, threads: int | str) -> tuple[int, int]:
    """Divide PyTorch's default number of threads among variants.

    Args:
        num_variants: of the largest array.
        threads: per variant, or `auto`.

    Returns:
        How many variants compute at once, and with how many threads each.

    Raises:
        ValueError: if `threads` is neither a positive number nor `auto`.
    """
    cores = torch.get_num_threads()
    if threads == "auto":
        threads = cores // min(num_variants, cores)
    threads = as_count(threads, "array.threads")
    return min(num_variants, max(1, cores // threads)), threads


def count_workers(variants: Sequence[Variant]) -> int:
    """Return how many of these variants compute at once, each with its number of threads."""
    return min(len(variants), max(1, torch.get_num_threads() // variants[0].threads))


@dataclass
class PackedArray:
    """Variants that train together.

    Args:
        num_workers: variants that compute at once.
        shares: whether they share one device, as on a GPU, so that computing at once saves no time.
    """

    num_workers: int
    shares: bool
    variants: list[Variant] = field(default_factory=list)
    work: float = 0.0  # seconds of all variants
    state: int = 0  # bytes of all variants
    steps: int = 0  # bytes of a step of all variants
    largest_step: int = 0  # bytes

    @property
    def seconds(self) -> float:
        """Seconds from the first step to the last; on a GPU, an upper bound."""
        return self.work if self.shares else self.work / self.num_workers

    @property
    def bytes(self) -> int:
        """Peak bytes of memory."""
        return self.bytes_with(StepBytes(0, 0))

    def bytes_with(self, more: StepBytes) -> int:
        """Return the bytes with one more variant."""
        steps = min(self.steps + more.step, self.num_workers * max(self.largest_step, more.step))
        return self.state + more.state + steps

    def add(self, variant: Variant, cost: VariantCost) -> None:
        """Add a variant."""
        self.variants.append(variant)
        self.work += cost.seconds
        self.state += cost.bytes.state
        self.steps += cost.bytes.step
        self.largest_step = max(self.largest_step, cost.bytes.step)


def split_by_memory(variants: Sequence[Variant], images: Images) -> list[list[Variant]]:
    """Divide variants of one group into arrays that fit into memory, as `array.max_variants` says.

    Raises:
        ValueError: if that is neither a positive number nor `auto`.
    """
    most = most_variants(variants)
    if most is None and len(variants) > 1:
        costs = variant_costs(variants, images, timed=False)
        return [array.variants for array in _divide(variants, costs, 1, 1)]
    most = most or 1
    return [list(variants[first : first + most]) for first in range(0, len(variants), most)]


def most_variants(variants: Sequence[Variant]) -> int | None:
    """Return how many of these variants an array may have at most; None: limited by memory only.

    Raises:
        ValueError: if `array.max_variants` is neither a positive number nor `auto`.
    """
    most = variants[0].config["array"]["max_variants"]
    return None if most == "auto" else as_count(most, "array.max_variants")


def pack(groups: Sequence[tuple[Sequence[Variant], Sequence[VariantCost]]], max_jobs: int) -> list[PackedArray]:
    """Divide variants into arrays that take about the same time, fit into memory, and keep all slots busy.

    Args:
        groups: variants that could train in one array, and their costs.
        max_jobs: arrays that train at once.

    Returns:
        The longest first.
    """
    total = sum(cost.seconds for _, costs in groups for cost in costs)
    arrays: list[PackedArray] = []
    for variants, costs in groups:
        share = sum(cost.seconds for cost in costs) / total if total else 0
        arrays += _divide(variants, costs, max(1, round(max_jobs * share)), max_jobs)
    return sorted(arrays, key=lambda array: -array.seconds)


@determinism_as_before()
def _divide(variants: Sequence[Variant], costs: Sequence[VariantCost], count: int, max_jobs: int) -> list[PackedArray]:
    """Divide a group into `count` arrays, or more if memory or `array.max_variants` require it."""
    device = trial_trainer(variants[0]).strategy.root_device
    on_cpu = device.type == "cpu"
    num_workers = count_workers(variants) if on_cpu else NUM_STREAMS
    most = most_variants(variants) or len(variants)
    # Slots on this machine share its memory, but each has a GPU of its own.
    budget = MAX_SHARE_OF_FREE_MEMORY * free_memory(device) / (max_jobs if on_cpu else 1)
    arrays = [PackedArray(num_workers, not on_cpu) for _ in range(min(count, len(variants)))]
    queue = [(0.0, place) for place in range(len(arrays))]  # a heap of seconds and index of each array
    # The longest variant goes first, to the shortest array.
    for variant, cost in sorted(zip(variants, costs, strict=True), key=lambda each: -each[1].seconds):
        seconds, place = heapq.heappop(queue) if queue else (0.0, len(arrays))
        if place == len(arrays) or (arrays[place].variants and arrays[place].bytes_with(cost.bytes) > budget):
            seconds, place = 0.0, len(arrays)  # a full array is not tried again
            arrays.append(PackedArray(num_workers, not on_cpu))
        arrays[place].add(variant, cost)
        if len(arrays[place].variants) < most:
            heapq.heappush(queue, (seconds + cost.seconds, place))
    return arrays
