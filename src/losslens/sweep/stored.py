"""What is in a sweep's folder already: which variants are done, which go on, and whether a command fits to them."""

import contextlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from losslens.build import flat_settings
from losslens.files import unique
from losslens.report.results import SWEEP_FILE, VariantResult, read_sweep_file
from losslens.sweep.arrays import is_held, taken_arrays
from losslens.sweep.folders import cannot_write
from losslens.sweep.names import safe_name
from losslens.variant import Variant

LOCK = "sweep.lock"
# What says how a command goes, and not what a variant learns.
COMMAND_KEYS = ("sweep", "resume", "retry_failed", "fail_fast", "report", "checkpoint", "plan", "optimize", "searched")
MAIN_VALUES = ("loss", "model", "data", "seed")  # what a variant is called by; a sweep may have more of them
PATIENCE = 2.0  # seconds: who only looks whether a folder is held, holds it for a moment
SHOWN = 3  # differences in a message


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold a sweep's folder; the operating system lets go of it when the process ends, however that happens.

    Args:
        folder: of the sweep.
        name: of the file that is locked.

    Raises:
        ValueError: if another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise ValueError(f"another process is at work on {folder}: wait for it, or stop it first") from None
    except OSError as error:
        raise cannot_write(folder / name, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process is at work on a sweep's folder, as far as that can be seen."""
    return bool(taken_arrays(folder)) or is_held(folder / LOCK)


def stored_variants(folder: Path, names: Container[str] | None = None) -> list[Variant]:
    """Read the variants of a sweep's folder, each as it was planned; none if there is no sweep yet.

    Args:
        folder: of the sweep.
        names: of the variants to be read; None for all.
    """
    if not (folder / SWEEP_FILE).is_file():
        return []
    variants = []
    for entry in read_sweep_file(folder)["variants"]:
        if names is not None and entry["name"] not in names:
            continue
        place = folder / entry["folder"]
        config = OmegaConf.to_container(OmegaConf.load(place / "config.yaml"))
        assert isinstance(config, dict)
        plain = {str(key): value for key, value in config.items()}
        variants.append(Variant(entry["name"], plain, place, entry["values"], entry.get("threads", 1)))
    return variants


def stored_losses(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read the configurations of all losses of a sweep, by name, from one variant of each."""
    sweep = read_sweep_file(folder)
    firsts = {entry["own_loss"]: entry["name"] for entry in sweep["variants"][::-1]}
    variants = {variant.name: variant for variant in stored_variants(folder, set(firsts.values()))}
    return {loss: variants[firsts[loss]].config["loss"] for loss in sweep["losses"] if loss in firsts}


def status_of(variant: Variant) -> str:
    """Return a variant's status: pending, running, interrupted, done or failed."""
    return str(VariantResult(variant.name, variant.folder, {}, "").status["status"])


def add_variants(stored: Sequence[Variant], planned: Sequence[Variant]) -> tuple[list[Variant], list[str]]:
    """Bring together what is in a folder and what a command asks for; what is equal is the same variant.

    A new one with the name of a stored one, which is called by what varies in its own command, gets a longer name if
    its loss, model, data or seed is another one.

    Returns:
        The stored ones, with the command's own settings, and then the new ones, under unique names; and the names of
        the planned ones, in their order.

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
            own = {key: variant.config[key] for key in COMMAND_KEYS if key in variant.config}
            result[same.name] = replace(same, config={**same.config, **own})
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
    """Add to the name of a new variant what tells it apart from an old one of the same name, if anything does."""
    different = [key for key in MAIN_VALUES if old.values.get(key) != new.values.get(key)]
    values = [f"{key}={new.values[key]}" for key in different]
    place = 1 if different[:1] == ["loss"] else 0  # the loss stands first
    return safe_name(",".join([*values[:place], new.name, *values[place:]])) if different else None


def _learned(config: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in config.items() if key not in COMMAND_KEYS}, sort_keys=True)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = (flat_settings({k: v for k, v in each.items() if k not in COMMAND_KEYS}) for each in (old, new))
    keys = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    shown = ", ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in keys[:SHOWN])
    return shown + (f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
