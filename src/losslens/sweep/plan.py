"""From the jobs of a sweep to variants, and from variants to the arrays that train one after another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from torch import Tensor

from losslens.data.source import Images
from losslens.files import unique
from losslens.memory import free_memory
from losslens.sweep.names import folder_name, job_values, varied_values
from losslens.sweep.start import Job
from losslens.training.cuda import NUM_STREAMS
from losslens.training.memory import Need, measure_step, variants_that_fit
from losslens.training.module import LitAutoencoder
from losslens.training.trainer import determinism_as_before, make_trainer, trainer_settings
from losslens.variant import HParam, Variant

Measured = TypeVar("Measured")
BASELINE_KINDS = ("klt", "mean", "jpeg")
SHARED = ("data", "array")  # what variants of one array have in common, besides the Trainer; all else may differ


def plan_variants(jobs: Sequence[Job], folder: Path, *, single: bool) -> list[Variant]:
    """Name the variants, place them in folders, and resolve their configurations.

    Names say what differs between the jobs, or those of a search what it varies, whatever is equal by chance.
    """
    values = [job_values(overrides, choices) for _, overrides, choices in jobs]
    searched = jobs[0][0].searched
    varied = [{key: value[key] for key in searched} for value in values] if searched else varied_values(values)
    names = unique([folder_name(value) for value in varied])
    variants = []
    for (config, _, choices), name, own, differing in zip(jobs, names, values, varied, strict=True):
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(resolved, dict)
        check_baselines(resolved["baselines"])
        main: dict[str, HParam] = {"loss": own["loss"], "model": choices["model"], "data": choices["data"]}
        hparams = {**main, "seed": config.seed, **{k: v for k, v in differing.items() if k not in ("loss", "seed")}}
        variants.append(
            Variant(name, {str(k): v for k, v in resolved.items()}, folder if single else folder / name, hparams)
        )
    threads = {
        variant.name: share_cores(len(group), group[0].config["array"]["threads"])[1]
        for group in group_variants(variants)
        for variant in group
    }
    return [replace(variant, threads=threads[variant.name]) for variant in variants]


def check_baselines(names: object) -> None:
    """Raise a ValueError if baselines are not a list of those that there are."""
    if not isinstance(names, list) or set(map(str, names)) - set(BASELINE_KINDS):
        raise ValueError(
            f"baselines {names} is no list of {', '.join(BASELINE_KINDS)}: try 'baselines=[mean,klt,jpeg]'"
        )


def distinct_losses(variants: Sequence[Variant]) -> dict[str, Mapping[str, Any]]:
    """List the configurations of the losses of a sweep, each once, by unique names."""
    configs: list[Mapping[str, Any]] = []
    names = []
    for variant in variants:
        if variant.config["loss"] not in configs:
            configs.append(variant.config["loss"])
            names.append(str(variant.values["loss"]))
    return dict(zip(unique(names), configs, strict=True))


def group_variants(variants: Sequence[Variant]) -> list[list[Variant]]:
    """Bring together, in their order, the variants that can train in one array."""
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        shared = repr([*(variant.config[part] for part in SHARED), trainer_settings(variant.config), variant.threads])
        groups.setdefault(shared, []).append(variant)
    return list(groups.values())


def share_cores(num_variants: int, threads: int | str) -> tuple[int, int]:
    """Divide the threads that PyTorch would use by itself among variants.

    Args:
        num_variants: of the largest array.
        threads: per variant, or `auto`.

    Returns:
        How many variants compute at once, and with how many threads each.

    Raises:
        ValueError: if `threads` is neither.
    """
    cores = torch.get_num_threads()
    if threads == "auto":
        threads = cores // min(num_variants, cores)
    threads = as_count(threads, "array.threads")
    return min(num_variants, max(1, cores // threads)), threads


def count_workers(variants: Sequence[Variant]) -> int:
    """Return how many of these variants compute at once, each with its number of threads."""
    return min(len(variants), max(1, torch.get_num_threads() // variants[0].threads))


@determinism_as_before()
def split_by_memory(variants: Sequence[Variant], images: Images, num_workers: int) -> list[list[Variant]]:
    """Divide variants of one group into arrays that fit into memory, as `array.max_variants` says.

    Raises:
        ValueError: if that is neither a positive number nor `auto`.
    """
    most = most_variants(variants)
    if most is not None:
        return [list(variants[first : first + most]) for first in range(0, len(variants), most)]
    if len(variants) == 1:
        return [list(variants)]
    trainer = make_trainer(trainer_settings(variants[0].config), variants[0].folder, [])
    device = trainer.strategy.root_device

    def measure(module: LitAutoencoder, batch: Tensor) -> Need:
        return measure_step(module, batch, device, trainer.precision_plugin)

    needs = measure_kinds(variants, images, measure, Need(0, 0))
    arrays, first = [], 0
    while first < len(variants):
        at_once = num_workers if device.type == "cpu" else NUM_STREAMS
        count = variants_that_fit(needs[first:], free_memory(device), at_once)
        arrays.append(list(variants[first : first + count]))
        first += count
    return arrays


def most_variants(variants: Sequence[Variant]) -> int | None:
    """Return how many of these variants an array may have at most; None if that is for memory to say.

    Raises:
        ValueError: if `array.max_variants` is neither a positive number nor `auto`.
    """
    most = variants[0].config["array"]["max_variants"]
    return None if most == "auto" else as_count(most, "array.max_variants")


def measure_kinds(
    variants: Sequence[Variant],
    images: Images,
    measure: Callable[[LitAutoencoder, Tensor], Measured],
    otherwise: Measured,
) -> list[Measured]:
    """Measure one variant of each kind, and take that for all alike.

    Args:
        variants: of one group.
        images: of the group.
        measure: given a module and a batch, float `(B, 3, H, W)`.
        otherwise: for what cannot be made or measured, which fails later, by itself.

    Returns:
        For each variant.
    """
    batch = images.train[: variants[0].config["data"]["batch_size"]].float() / 255
    known: dict[str, Measured] = {}
    kinds = []
    for variant in variants:
        parts = {part: variant.config[part] for part in ("loss", "optimizer")}
        kinds.append(kind := repr([variant.config["model"], *parts.values()]))
        if kind not in known:
            try:
                known[kind] = measure(LitAutoencoder(variant.config["model"], **parts), batch)
            except Exception:
                known[kind] = otherwise
    return [known[kind] for kind in kinds]


def as_count(value: int | str, key: str) -> int:
    """Check that a setting is a positive number.

    Raises:
        ValueError: if not.
    """
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value}: use auto, or a whole number of 1 or more")
    return value
