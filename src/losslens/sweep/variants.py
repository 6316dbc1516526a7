"""Read the variants of a sweep's folder, add those of a new command, and make their folders."""

import os
import platform
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from losslens.build import flat_settings
from losslens.files import cannot_write, remove_asides, unique, write_json, write_text
from losslens.sweep import ledger
from losslens.sweep.results import (
    ENVIRONMENT_FILE,
    SWEEP_FILE,
    distinct_losses,
    read_config,
    read_sweep_file,
    write_sweep_file,
)
from losslens.sweep.stored import check_links
from losslens.variant import Variant, VariantConfig, config_key, safe_name

# Settings of a command, which do not change what a variant learns.
COMMAND_KEYS = ("sweep", "resume", "retry_failed", "fail_fast", "report", "checkpoint", "plan", "optimize", "searched")
PACKAGES = (
    "losslens",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "tensorboard",
    "numpy",
    "pillow",
)
NEW_IN_DATA = {"max_pixels": 89_478_485, "max_value": "auto"}  # which older sweeps lack, and trained with
MAIN_VALUES = ("loss", "model", "data", "seed")  # lengthen a name that is taken
SHOWN = 3  # differences listed in a message


def stored_variants(folder: Path, names: Container[str] | None = None) -> list[Variant]:
    """Read the variants of a sweep's folder, each as it was planned, but for lost ones; none if there is no sweep yet.

    Args:
        names: of the variants to be read; None for all.
    """
    if not (folder / SWEEP_FILE).is_file():
        return []
    variants = []
    for entry in read_sweep_file(folder)["variants"]:
        if names is not None and entry["name"] not in names:
            continue
        place = folder / entry["folder"]
        if _is_there(place):
            check_links(folder, entry["folder"])
            variants.append(Variant(entry["name"], read_config(place), place, entry["values"], entry.get("threads", 1)))
    return variants


def lost_variants(folder: Path) -> list[str]:
    """Return the names of a sweep's variants whose folders, or configurations, are not there any more."""
    if not (folder / SWEEP_FILE).is_file():
        return []
    return [each["name"] for each in read_sweep_file(folder)["variants"] if not _is_there(folder / each["folder"])]


def _is_there(place: Path) -> bool:
    return (place / "config.yaml").is_file()


def stored_losses(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read the configurations of all losses of a sweep, by name, from one variant of each."""
    sweep = read_sweep_file(folder)
    there = [entry for entry in sweep["variants"] if _is_there(folder / entry["folder"])]
    firsts = {entry["own_loss"]: entry["name"] for entry in there[::-1]}
    variants = {variant.name: variant for variant in stored_variants(folder, set(firsts.values()))}
    return {loss: variants[firsts[loss]].config["loss"] for loss in sweep["losses"] if loss in firsts}


def add_variants(stored: Sequence[Variant], planned: Sequence[Variant]) -> tuple[list[Variant], list[str]]:
    """Merge the stored variants of a folder with the planned ones of a command; equal configurations are one variant.

    A new variant whose name is taken gets a longer one if its loss, model, data or seed differs.

    Returns:
        The stored variants, with the command's settings, then the new ones, under unique names; and the names of the
        planned ones, in their order.

    Raises:
        ValueError: if a variant of the same name is configured in another way.
    """
    known = {_learned(variant.config): variant for variant in stored}
    result = {variant.name: variant for variant in stored}
    new: list[Variant] = []
    names: dict[int, str] = {}
    for place, variant in enumerate(planned):
        same = known.get(_learned(variant.config))
        if same is not None:
            own = {key: value for key, value in variant.config.items() if key in COMMAND_KEYS}
            result[same.name] = replace(same, config=cast(VariantConfig, {**same.config, **own}))
            names[place] = same.name
            continue
        name = variant.name
        if name in result:
            name = _longer_name(result[name], variant) or name
        if name in result:
            raise ValueError(
                f"{name} of {variant.folder.parent} is configured in another way: "
                f"{_difference(result[name].config, variant.config)}; "
                "give this sweep another name, or the same settings"
            )
        new.append(replace(variant, name=name))
    unique_names = unique([*result, *(variant.name for variant in new)])[len(result) :]
    places = [place for place in range(len(planned)) if place not in names]
    for place, name, variant in zip(places, unique_names, new, strict=True):
        names[place] = name
        renamed = replace(variant, name=name, folder=variant.folder.with_name(name))
        result[name] = variant if name == planned[place].name else renamed
    return list(result.values()), [names[place] for place in range(len(planned))]


def _longer_name(old: Variant, new: Variant) -> str | None:
    """Add to a new variant's name the main values that differ from the old one's; None if none does."""
    different = [key for key in MAIN_VALUES if old.values.get(key) != new.values.get(key)]
    values = [f"{key}={new.values[key]}" for key in different]
    place = 1 if different[:1] == ["loss"] else 0  # the loss stands first
    return safe_name(",".join([*values[:place], new.name, *values[place:]])) if different else None


def _learned(config: Mapping[str, Any]) -> str:
    learned = {key: value for key, value in config.items() if key not in COMMAND_KEYS}
    learned["data"] = {key: value for key, value in config["data"].items() if (key, value) not in NEW_IN_DATA.items()}
    return config_key(learned)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = (flat_settings({k: v for k, v in each.items() if k not in COMMAND_KEYS}) for each in (old, new))
    keys = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    shown = ", ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in keys[:SHOWN])
    return shown + (f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def make_folders(variants: Sequence[Variant], folder: Path, known: Set[str], device: str) -> None:
    """Make the folder of every new variant, with configuration and environment, and then list all in `sweep.json`."""
    remove_asides(folder)
    if any(variant.name not in known for variant in variants):
        surroundings = environment(device)
    for variant in variants:
        if variant.name in known:
            continue
        try:
            variant.folder.mkdir(exist_ok=True)
            write_text(variant.folder / "config.yaml", OmegaConf.to_yaml(variant.config))
            write_json(variant.folder / ENVIRONMENT_FILE, surroundings)
            ledger.pending(variant.folder)
        except OSError as error:
            raise cannot_write(variant.folder, error.strerror or str(error)) from error
    try:
        write_sweep_file(folder, variants, distinct_losses(variants))
    except OSError as error:
        raise cannot_write(folder, error.strerror or str(error)) from error


def environment(device: str) -> dict[str, Any]:
    """Describe the command, machine and versions on which a run depends."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "directory": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpu_count": os.cpu_count(),
        "packages": {package: version(package) for package in PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
    }


def _git(*arguments: str) -> str | None:
    """Ask git about the folder of this code; None where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
